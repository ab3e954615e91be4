// Planning, reading and spreading samples behind kernels.h.
#ifndef DCNV2_CC_LIB_CPU_SIMD_SAMPLING_INL_H_
#define DCNV2_CC_LIB_CPU_SIMD_SAMPLING_INL_H_

#include "cc/lib/cpu/simd/kernels.h"
#include "cc/lib/cpu/simd/vector-inl.h"

namespace dcnv2 {
namespace DCNV2_SIMD_NAMESPACE {
namespace {

template <typename T, bool kBackward>
void PlanSamplesImpl(const SamplePositions<T>& positions, int32_t height, int32_t width, const SamplePlan<T>& plan,
                     const SampleGradientPlan<T>* gradient_plan) {
  using V = Simd<T>;
  using Vector = typename V::Vector;
  const Vector zero = {};
  const typename V::IntegerVector nowhere = typename V::IntegerVector{} - 1;
  // The arrays are padded to whole vectors.
  for (int64_t i = 0; i < positions.size; i += V::kLanes) {
    const BilinearSample<Vector> sample = {ZeroOutsideAxis(V::Load(positions.row + i), height),
                                           ZeroOutsideAxis(V::Load(positions.column + i), width)};
    const Vector validity = sample.validity();
    const auto outside = validity == zero;
    Vector scale = validity * V::Load(positions.modulation + i);
    // Outside the map there is nothing to read, unless the modulation is NaN, which must still reach the output.
    auto skipped = outside & (scale == zero);
    if (kBackward) {
      // There are no gradients outside, whatever the modulation. A position that is NaN feeds no pixel either: its own
      // gradient is NaN, which is enough to notice.
      scale = outside ? zero : scale;
      skipped = outside | (validity != validity);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const auto corner = sample.corner(c, width);
      V::StoreIndex(plan.corner[c] + i, c == 0 ? (skipped ? nowhere : corner) : corner);
      V::Store(plan.weight[c] + i, scale * sample.weight(c));
      if (gradient_plan == nullptr) continue;
      V::Store(gradient_plan->interpolation[c] + i, validity * sample.weight(c));
      V::Store(gradient_plan->row_slope[c] + i, scale * sample.row_slope(c));
      V::Store(gradient_plan->column_slope[c] + i, scale * sample.column_slope(c));
    }
  }
}

template <typename T>
void PlanSamples(const SamplePositions<T>& positions, int32_t height, int32_t width, SampleUse use,
                 const SamplePlan<T>& plan, const SampleGradientPlan<T>* gradient_plan) {
  if (use == SampleUse::kForward) {
    PlanSamplesImpl<T, false>(positions, height, width, plan, gradient_plan);
  } else {
    PlanSamplesImpl<T, true>(positions, height, width, plan, gradient_plan);
  }
}

// One sample: out[c] = sum_i weight[i] * corner[i][c].
template <typename S>
DCNV2_INLINE void Interpolate(const S* const (&corner)[4], const Compute<S> (&weight)[4], int64_t count,
                              Compute<S>* out) {
  constexpr int64_t kLanes = Simd<Compute<S>>::kLanes;
  int64_t c = 0;
#pragma GCC unroll 2
  for (; c + kLanes <= count; c += kLanes) {
    Store(out + c, weight[0] * Load(corner[0] + c) + weight[1] * Load(corner[1] + c) + weight[2] * Load(corner[2] + c) +
                       weight[3] * Load(corner[3] + c));
  }
  for (; c < count; ++c) {
    out[c] = weight[0] * Widen(corner[0][c]) + weight[1] * Widen(corner[1][c]) + weight[2] * Widen(corner[2][c]) +
             weight[3] * Widen(corner[3][c]);
  }
}

template <typename T>
DCNV2_INLINE void Clear(int64_t count, T* out) {
  constexpr int64_t kLanes = Simd<T>::kLanes;
  int64_t c = 0;
  for (; c + kLanes <= count; c += kLanes) Store(out + c, typename Simd<T>::Vector{});
  for (; c < count; ++c) out[c] = T(0);
}

// Structures are copied throughout: the compiler has to assume that a store to the tile changes what it reads through a
// reference.
template <typename S>
void Gather(const ColumnBlock<S>& block_reference, const SamplePlan<Compute<S>>& plan_reference, Compute<S>* tile,
            int64_t tile_stride) {
  using T = Compute<S>;
  const ColumnBlock<S> block = block_reference;
  const SamplePlan<T> plan = plan_reference;
  for (int64_t pixel = 0; pixel < block.pixels; ++pixel, tile += tile_stride) {
    const S* image = block.image[pixel];
    const int64_t first_sample = pixel * block.samples_per_pixel;
    for (int64_t r = 0; r < block.run_count; ++r) {
      const ChannelRun run = block.runs[r];
      const int64_t sample = first_sample + run.sample;
      if (plan.corner[0][sample] < 0) {
        Clear(run.count, tile + run.tile_column);
        continue;
      }
      const S* corner[4];
      T weight[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        corner[i] = image + plan.corner[i][sample] * block.image_channels + run.channel;
        weight[i] = plan.weight[i][sample];
      }
      Interpolate(corner, weight, run.count, tile + run.tile_column);
    }
  }
}

template <typename S>
void Scatter(const ColumnBlock<S>& block_reference, const SamplePlan<Compute<S>>& plan_reference,
             const Compute<S>* tile, Compute<S>* image_gradient, Compute<S>* dots) {
  using T = Compute<S>;
  const ColumnBlock<S> block = block_reference;
  const SamplePlan<T> plan = plan_reference;
  using Vector = typename Simd<T>::Vector;
  constexpr int64_t kLanes = Simd<T>::kLanes;
  for (int64_t pixel = 0; pixel < block.pixels; ++pixel, tile += kTileStride<T>) {
    const S* image = block.image[pixel];
    for (int64_t r = 0; r < block.run_count; ++r) {
      const ChannelRun run = block.runs[r];
      const int64_t sample = pixel * block.samples_per_pixel + run.sample;
      if (plan.corner[0][sample] < 0) continue;
      const T* const value = tile + run.tile_column;
      const S* x[4];
      T* gradient[4];
      T weight[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const int64_t start = plan.corner[i][sample] * block.image_channels + run.channel;
        x[i] = image + start;
        gradient[i] = image_gradient + start;
        weight[i] = plan.weight[i][sample];
      }
      Vector sum[4] = {};
      int64_t c = 0;
      for (; c + kLanes <= run.count; c += kLanes) {
        const Vector v = Load(value + c);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          sum[i] += v * Load(x[i] + c);
          // Corners may coincide at a border, so each is written before the next is read.
          Store(gradient[i] + c, Load(gradient[i] + c) + weight[i] * v);
        }
      }
      T* const dot = dots + 4 * sample;
      AddLaneSums<T>(sum, dot);
      for (; c < run.count; ++c) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          dot[i] += value[c] * Widen(x[i][c]);
          gradient[i][c] += weight[i] * value[c];
        }
      }
    }
  }
}

}  // namespace
}  // namespace DCNV2_SIMD_NAMESPACE
}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_SIMD_SAMPLING_INL_H_
