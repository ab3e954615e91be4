#include "cc/lib/cpu/conv/column_gradient.h"

#include <algorithm>
#include <utility>

namespace dcnv2 {
namespace {

// The chunks of channels of a task, which are multiples of `step` but for the last one. Fewer channels per task give
// more threads work, but each sample costs some work per task whatever its channels: below about 8192 multiplications
// per sample that begins to show. Two tasks there should be at any rate.
std::vector<ChannelChunk> ChunksOfTasks(const DeformConv2DShape& shape, int64_t step) {
  int64_t channels = 64;
  const auto tasks = [&shape, &channels] { return shape.batch * CeilDiv(shape.in_channels, channels); };
  while (channels > step && tasks() < 2) channels /= 2;
  while (channels > step && tasks() < 8 && channels / 2 * shape.group_out_channels() >= 8192) channels /= 2;
  return DivideChannels(shape, channels, step);
}

Work DivideGroups(const DeformConv2DShape& shape, int64_t channel_step, int64_t tile_columns, int64_t panel,
                  int64_t depth_step) {
  Work work;
  for (ChannelChunk& chunk : ChunksOfTasks(shape, channel_step)) {
    const SampleRange samples{chunk.first_deformable_group(), chunk.deformable_groups(), 0, shape.taps()};
    ChunkWork chunk_work{chunk, samples, {}, work.partials_per_pixel};
    for (const ChannelSegment& segment : chunk.segments) {
      const int64_t first_out = segment.group * shape.group_out_channels();
      const int64_t end_out = first_out + shape.group_out_channels();
      const int64_t taps_per_block = std::max<int64_t>(1, tile_columns / segment.count);
      for (int64_t tap = 0; tap < shape.taps(); tap += taps_per_block) {
        const int64_t taps = std::min(taps_per_block, shape.taps() - tap);
        for (int64_t out = first_out; out < end_out; out += tile_columns) {
          const int64_t outs = std::min(tile_columns, end_out - out);
          TransposedKernelBlock block{segment,
                                      tap,
                                      taps,
                                      out,
                                      outs,
                                      out > first_out,
                                      out + outs == end_out,
                                      work.packed_size,
                                      RunsOfTaps(samples, {segment}, tap, taps, segment.count)};
          work.packed_size += RoundUp(outs, depth_step) * RoundUp(block.columns(), panel);
          chunk_work.blocks.push_back(std::move(block));
        }
      }
    }
    work.partials_per_pixel += samples.per_pixel();
    work.chunks.push_back(std::move(chunk_work));
  }
  return work;
}

Work DivideNarrowGroups(const DeformConv2DShape& shape, int64_t tile_columns, int64_t lanes) {
  Work work;
  for (ChannelChunk& chunk : ChunksOfTasks(WithoutGroups(shape), kVectorChannels)) {
    const SampleRange samples{chunk.first_deformable_group(), chunk.deformable_groups(), 0, shape.taps()};
    ChunkWork chunk_work{chunk, samples, {}, work.partials_per_pixel};
    const int64_t width = RoundUp(chunk.count(), lanes);
    const int64_t taps_per_block = tile_columns / width;
    for (int64_t tap = 0; tap < shape.taps(); tap += taps_per_block) {
      const int64_t taps = std::min(taps_per_block, shape.taps() - tap);
      chunk_work.blocks.push_back({{0, 0, chunk.begin(), chunk.count()},
                                   tap,
                                   taps,
                                   chunk.begin(),
                                   chunk.count(),
                                   /*accumulate=*/false,
                                   /*complete=*/true,
                                   work.packed_size,
                                   RunsOfTaps(samples, chunk.segments, tap, taps, width)});
      work.packed_size += taps * shape.group_out_channels() * width;
    }
    work.partials_per_pixel += samples.per_pixel();
    work.chunks.push_back(std::move(chunk_work));
  }
  return work;
}

// The row of the kernel whose transpose is column `j` of a block, from the block's first output on.
template <typename S>
const S* KernelRow(const DeformConv2DShape& shape, const S* kernel, const TransposedKernelBlock& block, int64_t j) {
  const int64_t tap = block.first_tap + j / block.segment.count;
  const int64_t channel = block.segment.begin % shape.group_in_channels() + j % block.segment.count;
  return kernel + (tap * shape.group_in_channels() + channel) * shape.out_channels + block.first_out_channel;
}

}  // namespace

template <typename S>
void VectorColumnGradient<S>::CopyRow(const TransposedKernelBlock& block, const S* row, Element* out) const {
  for (int64_t i = 0; i < block.out_channels; ++i) out[i] = Widen(row[i]);
}

template <typename S>
PanelColumnGradient<S>::PanelColumnGradient(const DeformConv2DShape& shape)
    : VectorColumnGradient<S>(
          shape, DivideGroups(shape, kVectorChannels, kTileStride<Element>, BestSimdKernels<S>().gemm_columns, 1)) {}

// Packs kernel^T[out channel, (tap, channel)] of one block, a few output channels at a time: a panel is written across
// its rows, and so many of them stay in the first-level cache.
template <typename S>
void PanelColumnGradient<S>::Pack(const S* kernel, const TransposedKernelBlock& block, Element* packed) const {
  const int64_t panel = this->simd_.gemm_columns;
  constexpr int64_t kStep = 16;
  for (int64_t first = 0; first < block.columns(); first += panel, packed += panel * block.out_channels) {
    const int64_t end = std::min(first + panel, block.columns());
    if (end < first + panel) std::fill_n(packed, panel * block.out_channels, Compute<S>(0));
    for (int64_t out = 0; out < block.out_channels; out += kStep) {
      const int64_t out_end = std::min(out + kStep, block.out_channels);
      for (int64_t j = first; j < end; ++j) {
        const S* row = KernelRow(this->shape_, kernel, block, j);
        for (int64_t o = out; o < out_end; ++o) packed[o * panel + j - first] = Widen(row[o]);
      }
    }
  }
}

template <typename S>
void PanelColumnGradient<S>::Multiply(const TransposedKernelBlock& block, int64_t rows, const Element* dy,
                                      const Element* packed_kernel, Compute<S>* dcolumn) const {
  this->simd_.gemm({rows, block.columns(), block.out_channels, dy, kTileStride<Element>, packed_kernel, dcolumn,
                    kTileStride<Compute<S>>, block.accumulate});
}

template <typename S>
NarrowGroupColumnGradient<S>::NarrowGroupColumnGradient(const DeformConv2DShape& shape)
    : VectorColumnGradient<S>(shape, DivideNarrowGroups(shape, kTileStride<Element>, BestSimdKernels<S>().lanes)) {}

// Rows of channels are padded to whole vectors.
template <typename S>
void NarrowGroupColumnGradient<S>::Pack(const S* kernel, const TransposedKernelBlock& block, Element* packed) const {
  const int64_t group = this->shape_.group_out_channels();
  for (int64_t tap = block.first_tap; tap < block.first_tap + block.taps; ++tap) {
    for (int64_t out = 0; out < group; ++out, packed += RoundUp(block.out_channels, this->simd_.lanes)) {
      for (int64_t c = 0; c < block.out_channels; ++c) {
        const S* row = kernel + (tap * group + c % group) * this->shape_.out_channels + block.first_out_channel;
        packed[c] = Widen(row[c / group * group + out]);
      }
    }
  }
}

template <typename S>
void NarrowGroupColumnGradient<S>::Multiply(const TransposedKernelBlock& block, int64_t rows, const Element* dy,
                                            const Element* packed_kernel, Compute<S>* dcolumn) const {
  const int64_t group = this->shape_.group_out_channels(), width = RoundUp(block.out_channels, this->simd_.lanes);
  for (int64_t tap = 0; tap < block.taps; ++tap, packed_kernel += group * width) {
    this->simd_.group_product({rows, block.out_channels, group, 1, dy, kTileStride<Element>, packed_kernel, width,
                               dcolumn + tap * width, kTileStride<Compute<S>>, /*accumulate=*/false});
  }
}

UnitColumnGradient::UnitColumnGradient(const DeformConv2DShape& shape, const MatrixUnits& units)
    : shape_(shape), units_(units), work_(DivideGroups(shape, kUnitBlock, kUnitTileColumns, kUnitBlock, kUnitBlock)) {}

// Pairs of outputs lie side by side in the kernel already.
void UnitColumnGradient::Pack(const BFloat16* kernel, const TransposedKernelBlock& block, BFloat16* packed) const {
  const int64_t depth = RoundUp(block.out_channels, kUnitBlock);
  for (int64_t j = 0; j < block.columns(); ++j) {
    const BFloat16* row = KernelRow(shape_, kernel, block, j);
    BFloat16* column = packed + j / kUnitBlock * kUnitBlock * depth + j % kUnitBlock * 2;
    for (int64_t o = 0; o < depth; ++o) {
      column[o / 2 * 2 * kUnitBlock + o % 2] = o < block.out_channels ? row[o] : BFloat16{};
    }
  }
}

void UnitColumnGradient::CopyRow(const TransposedKernelBlock& block, const BFloat16* row, BFloat16* out) const {
  std::copy_n(row, block.out_channels, out);
  std::fill(out + block.out_channels, out + RoundUp(block.out_channels, kUnitBlock), BFloat16{});
}

void UnitColumnGradient::Multiply(const TransposedKernelBlock& block, int64_t rows, const BFloat16* dy,
                                  const BFloat16* packed_kernel, float* dcolumn) const {
  units_.multiply({RoundUp(rows, kUnitBlock), block.columns(), RoundUp(block.out_channels, kUnitBlock), dy,
                   packed_kernel, dcolumn, dcnv2::kTileStride<float>, block.accumulate});
}

#define DCNV2_INSTANTIATE(S)              \
  template class VectorColumnGradient<S>; \
  template class PanelColumnGradient<S>;  \
  template class NarrowGroupColumnGradient<S>
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
