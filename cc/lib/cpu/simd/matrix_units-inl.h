// The loops behind matrix_units.h, for units of which a class tells
//   kName
//   InUse                            exists while blocks are multiplied
//   MultiplyBlock(depth, a, b, c, c_stride, accumulate)
//                                    one block of C, of kUnitBlock x kUnitBlock elements
//   StoreRounded(low, high, out)     rounds two registers of floats to one of bfloat16: its lower half, then its upper
//   StorePairs(first, second, out)   likewise, with the elements of the two in turn
// Like every -inl.h file here it may call no function that another instruction set has too and that is not inlined.
#ifndef DCNV2_CC_LIB_CPU_SIMD_MATRIX_UNITS_INL_H_
#define DCNV2_CC_LIB_CPU_SIMD_MATRIX_UNITS_INL_H_

#include "cc/lib/cpu/simd/matrix_units.h"

namespace dcnv2 {

// Registers of 64 bytes. A float is a bfloat16 followed by 16 bits more, so that a register of bfloat16 is one of
// floats: its odd elements, with something in those bits.
typedef float UnitFloats __attribute__((vector_size(64)));
typedef float UnalignedUnitFloats __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t UnitWords __attribute__((vector_size(64)));
typedef uint32_t UnalignedUnitWords __attribute__((vector_size(64), aligned(2), may_alias));

DCNV2_INLINE void LoadPairs(const BFloat16* pairs, UnitFloats* even, UnitFloats* odd) {
  const UnitWords words = *reinterpret_cast<const UnalignedUnitWords*>(pairs);
  *even = (UnitFloats)(words << 16);
  *odd = (UnitFloats)(words & 0xffff0000u);
}

template <typename Units>
void MultiplyOnUnits(const UnitProduct& product) {
  const UnitProduct p = product;
  [[maybe_unused]] const typename Units::InUse in_use;
  for (int64_t row = 0; row < p.rows; row += kUnitBlock) {
    for (int64_t column = 0; column < p.columns; column += kUnitBlock) {
      Units::MultiplyBlock(p.depth, p.a + row * kUnitTileStride, p.packed_b + column * p.depth,
                           p.c + row * p.c_stride + column, p.c_stride, p.accumulate);
    }
  }
}

// One sample of a run of channels.
struct UnitSample {
  const BFloat16* corner[4];
  float weight[4];
  int64_t step;  // what corners go on by with every channel: 1, or 0 where the sample is absent
};

// What an absent sample reads.
constexpr BFloat16 kUnitZeros[kUnitBlock] = {};

DCNV2_INLINE UnitSample LocateUnitSample(const ColumnBlock<BFloat16>& block, const SamplePlan<float>& plan,
                                         int64_t pixel, const ChannelRun& run) {
  const int64_t sample = pixel * block.samples_per_pixel + run.sample;
  if (pixel >= block.pixels || plan.corner[0][sample] < 0) {
    return {{kUnitZeros, kUnitZeros, kUnitZeros, kUnitZeros}, {}, 0};
  }
  UnitSample located = {{}, {}, 1};
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    located.corner[i] = block.image[pixel] + plan.corner[i][sample] * block.image_channels + run.channel;
    located.weight[i] = plan.weight[i][sample];
  }
  return located;
}

// Channels [c, c + kUnitBlock) of the run.
DCNV2_INLINE void InterpolatePairs(const UnitSample& sample, int64_t c, UnitFloats* even, UnitFloats* odd) {
  UnitFloats evens[4], odds[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) LoadPairs(sample.corner[i] + c * sample.step, &evens[i], &odds[i]);
  const float* const weight = sample.weight;
  *even = weight[0] * evens[0] + weight[1] * evens[1] + weight[2] * evens[2] + weight[3] * evens[3];
  *odd = weight[0] * odds[0] + weight[1] * odds[1] + weight[2] * odds[2] + weight[3] * odds[3];
}

// Structures are copied: the compiler has to assume that a store to the tile changes what it reads through a reference.
template <typename Units>
void GatherForUnits(const ColumnBlock<BFloat16>& block_reference, const SamplePlan<float>& plan_reference,
                    BFloat16* tile) {
  const ColumnBlock<BFloat16> block = block_reference;
  const SamplePlan<float> plan = plan_reference;
  for (int64_t pixel = 0; pixel < block.pixels; ++pixel, tile += kUnitTileStride) {
    for (int64_t r = 0; r < block.run_count; ++r) {
      const ChannelRun run = block.runs[r];
      const UnitSample sample = LocateUnitSample(block, plan, pixel, run);
#pragma GCC unroll 2
      for (int64_t c = 0; c < run.count; c += kUnitBlock) {
        UnitFloats even, odd;
        InterpolatePairs(sample, c, &even, &odd);
        Units::StoreRounded(even, odd, tile + run.tile_column + c);
      }
    }
  }
}

template <typename Units>
void GatherPairsForUnits(const ColumnBlock<BFloat16>& block_reference, const SamplePlan<float>& plan_reference,
                         int64_t depth, BFloat16* packed) {
  const ColumnBlock<BFloat16> block = block_reference;
  const SamplePlan<float> plan = plan_reference;
  for (int64_t pixel = 0; pixel < depth; pixel += 2, packed += 2 * kUnitBlock) {
    for (int64_t r = 0; r < block.run_count; ++r) {
      const ChannelRun run = block.runs[r];
      const UnitSample first = LocateUnitSample(block, plan, pixel, run);
      const UnitSample second = LocateUnitSample(block, plan, pixel + 1, run);
      for (int64_t c = 0; c < run.count; c += kUnitBlock) {
        UnitFloats even[2], odd[2];
        InterpolatePairs(first, c, &even[0], &odd[0]);
        InterpolatePairs(second, c, &even[1], &odd[1]);
        BFloat16* const panel = packed + (run.tile_column + c) * depth;
        Units::StorePairs(even[0], even[1], panel);
        Units::StorePairs(odd[0], odd[1], panel + kUnitBlock);
      }
    }
  }
}

template <typename Units>
void NarrowForUnits(const float* values, int64_t size, BFloat16* out) {
  int64_t i = 0;
  for (; i + kUnitBlock <= size; i += kUnitBlock) {
    Units::StoreRounded(*reinterpret_cast<const UnalignedUnitFloats*>(values + i),
                        *reinterpret_cast<const UnalignedUnitFloats*>(values + i + kUnitBlock / 2), out + i);
  }
  for (; i < size; ++i) out[i] = Narrow<BFloat16>(values[i]);
}

template <typename Units>
constexpr MatrixUnits MakeMatrixUnits() {
  return {Units::kName, MultiplyOnUnits<Units>, GatherForUnits<Units>, GatherPairsForUnits<Units>,
          NarrowForUnits<Units>};
}

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_SIMD_MATRIX_UNITS_INL_H_
