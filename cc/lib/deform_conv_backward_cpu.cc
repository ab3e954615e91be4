// Backward, in two passes that recompute the samples instead of storing them:
//  1. kernel gradient: each task owns one tap and some input channels of it, and walks all pixels in order;
//  2. gradients of x, offset and mask: each task owns some channels of one image's gradient and walks the image's
//  pixels
//     in order. dColumn = dY * W^T is scattered without atomics because no other task touches those channels. Offset
//     and mask gradients sum over channels, so tasks leave partial sums, added up at the end in a fixed order.
// Ownership follows from the shape alone: the result is bit-identical for any number of threads.
#include <algorithm>
#include <vector>

#include "cc/lib/column_tile.h"
#include "cc/lib/deform_conv_cpu.h"

namespace dcnv2 {
namespace {

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Channels that one task owns, cut into segments with one group and deformable group each.
struct ChannelChunk {
  std::vector<ChannelSegment> segments;
  int64_t begin() const { return segments.front().begin; }
  int64_t count() const { return segments.back().begin + segments.back().count - begin(); }
  int64_t first_deformable_group() const { return segments.front().deformable_group; }
  int64_t deformable_groups() const { return segments.back().deformable_group - first_deformable_group() + 1; }
};

std::vector<ChannelChunk> DivideChannels(const DeformConvShape& shape, int64_t max_channels) {
  const int64_t chunks = CeilDiv(shape.in_channels, max_channels);
  // Multiples of 16 keep vectors whole; only the last chunk may be ragged.
  const int64_t step = CeilDiv(CeilDiv(shape.in_channels, chunks), 16) * 16;
  std::vector<ChannelChunk> result;
  for (int64_t begin = 0; begin < shape.in_channels; begin += step) {
    result.push_back({SplitAtGroups(shape, begin, std::min(begin + step, shape.in_channels))});
  }
  return result;
}

template <typename T>
void CopyToTile(const T* source, int64_t stride, int64_t rows, int64_t columns, T* tile) {
  for (int64_t row = 0; row < rows; ++row) std::copy_n(source + row * stride, columns, tile + row * kTileStride<T>);
}

// ---- Pass 1 --------------------------------------------------------------------------------------------------------

template <typename T>
void KernelGradientTask(const DeformConvShape& shape, const DeformConvInputs<T>& inputs, const T* dy,
                        const SimdKernels<T>& simd, int64_t tap, const ChannelChunk& chunk, T* dkernel) {
  const int64_t pixels = shape.batch * shape.out_pixels();
  const int64_t out_channels = shape.group_out_channels();
  const SampleRange samples{chunk.first_deformable_group(), chunk.deformable_groups(), tap, 1};
  // A deep tile amortises reading and writing the kernel gradient; the packed dY must stay in the second-level cache.
  constexpr int64_t kPackedElements = 96 * 1024;
  const int64_t wanted = std::clamp<int64_t>(kPackedElements / out_channels, 48, 240);
  const int64_t tile_pixels = PixelsPerTile<T>(samples.per_pixel(), std::min(wanted, pixels));
  TilePlan<T> plan(shape, samples, tile_pixels, /*with_gradients=*/false);
  AlignedBuffer<T> tile(tile_pixels * kTileStride<T>);
  AlignedBuffer<T> packed_dy(PackedGemmBSize(tile_pixels, out_channels, simd.gemm_columns));
  std::vector<ChannelRun> runs;
  for (const ChannelSegment& segment : chunk.segments) {
    runs.push_back(
        {samples.Index(segment.deformable_group, tap), segment.begin, segment.count, segment.begin - chunk.begin()});
  }
  for (int64_t first = 0; first < pixels; first += tile_pixels) {
    const int64_t count = std::min(tile_pixels, pixels - first);
    plan.Compute(simd, inputs.x, inputs.offset, inputs.mask, first, count);
    simd.gather(plan.Block(runs), plan.plan(), tile.data());
    int64_t packed_group = -1;
    for (const ChannelSegment& segment : chunk.segments) {
      if (segment.group != packed_group) {
        packed_group = segment.group;
        PackGemmB(dy + first * shape.out_channels + segment.group * out_channels, shape.out_channels, 1, count,
                  out_channels, simd.gemm_columns, packed_dy.data());
      }
      const int64_t channel_in_group = segment.begin - segment.group * shape.group_in_channels();
      T* out = dkernel + (tap * shape.group_in_channels() + channel_in_group) * shape.out_channels +
               segment.group * out_channels;
      simd.gemm({segment.count, out_channels, count, tile.data() + segment.begin - chunk.begin(),
                 /*a_is_transposed=*/true, packed_dy.data(), out, shape.out_channels, /*accumulate=*/first > 0});
    }
  }
}

template <typename T>
void KernelGradient(const DeformConvShape& shape, const DeformConvInputs<T>& inputs, const T* dy, T* dkernel,
                    const ParallelFor& parallel_for) {
  const SimdKernels<T>& simd = BestSimdKernels<T>();
  const std::vector<ChannelChunk> chunks = DivideChannels(shape, 128);
  const int64_t chunk_count = chunks.size();
  const int64_t cost = shape.batch * shape.out_pixels() * chunks[0].count() * (8 + shape.group_out_channels() / 16);
  parallel_for(shape.taps() * chunk_count, cost, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      KernelGradientTask(shape, inputs, dy, simd, task / chunk_count, chunks[task % chunk_count], dkernel);
    }
  });
}

// ---- Pass 2 --------------------------------------------------------------------------------------------------------

// A block of W^T: rows are output channels of a group, columns are `taps` x the channels of one segment.
struct TransposedKernelBlock {
  ChannelSegment segment;
  int64_t first_tap, taps;
  int64_t first_out_channel, out_channels;  // within the group
  int64_t packed;
  bool last_out_channels;
  std::vector<ChannelRun> runs;

  int64_t columns() const { return taps * segment.count; }
};

// What one task needs to know about its chunk of channels.
struct ChunkWork {
  ChannelChunk chunk;
  SampleRange samples;
  std::vector<TransposedKernelBlock> blocks;
  int64_t partial;  // where its partial sums start, in samples
};

struct BackwardWork {
  std::vector<ChunkWork> chunks;
  int64_t packed_size = 0;
  int64_t partial_size = 0;  // samples
};

BackwardWork DivideWork(const DeformConvShape& shape, int64_t max_channels, int64_t tile_columns, int64_t panel) {
  BackwardWork work;
  const int64_t out_pixels = shape.batch * shape.out_pixels();
  for (ChannelChunk& chunk : DivideChannels(shape, max_channels)) {
    const SampleRange samples{chunk.first_deformable_group(), chunk.deformable_groups(), 0, shape.taps()};
    ChunkWork chunk_work{chunk, samples, {}, work.partial_size};
    for (const ChannelSegment& segment : chunk.segments) {
      const int64_t taps_per_block = std::max<int64_t>(1, tile_columns / segment.count);
      for (int64_t tap = 0; tap < shape.taps(); tap += taps_per_block) {
        const int64_t taps = std::min(taps_per_block, shape.taps() - tap);
        for (int64_t o = 0; o < shape.group_out_channels(); o += tile_columns) {
          const int64_t outs = std::min(tile_columns, shape.group_out_channels() - o);
          const bool last = o + outs == shape.group_out_channels();
          TransposedKernelBlock block{segment, tap, taps, o, outs, work.packed_size, last, {}};
          for (int64_t t = tap; t < tap + taps; ++t) {
            block.runs.push_back(
                {samples.Index(segment.deformable_group, t), segment.begin, segment.count, (t - tap) * segment.count});
          }
          work.packed_size += PackedGemmBSize(outs, block.columns(), panel);
          chunk_work.blocks.push_back(std::move(block));
        }
      }
    }
    work.partial_size += out_pixels * samples.per_pixel();
    work.chunks.push_back(std::move(chunk_work));
  }
  return work;
}

// Packs W^T[out channel, (tap, channel)] of one block.
template <typename T>
void PackTransposedKernel(const DeformConvShape& shape, const T* kernel, const TransposedKernelBlock& block,
                          int64_t panel, T* packed) {
  const int64_t channel_in_group = block.segment.begin - block.segment.group * shape.group_in_channels();
  const int64_t first_out = block.segment.group * shape.group_out_channels() + block.first_out_channel;
  const int64_t padded = CeilDiv(block.columns(), panel) * panel;
  for (int64_t j = 0; j < padded; ++j) {
    T* out = packed + j / panel * panel * block.out_channels + j % panel;
    if (j >= block.columns()) {
      for (int64_t o = 0; o < block.out_channels; ++o) out[o * panel] = T(0);
      continue;
    }
    const int64_t tap = block.first_tap + j / block.segment.count;
    const int64_t channel = channel_in_group + j % block.segment.count;
    const T* row = kernel + (tap * shape.group_in_channels() + channel) * shape.out_channels + first_out;
    for (int64_t o = 0; o < block.out_channels; ++o) out[o * panel] = row[o];
  }
}

// Partial gradients of the samples, each [sample] in the order of the chunk's plan.
template <typename T>
struct Partials {
  T *modulation, *row, *column;
};

template <typename T>
void ImageGradientTask(const DeformConvShape& shape, const DeformConvInputs<T>& inputs, const T* dy,
                       const SimdKernels<T>& simd, const T* packed_kernel, const ChunkWork& work, int64_t image, T* dx,
                       const Partials<T>& partials) {
  const int64_t image_size = shape.in_height * shape.in_width * shape.in_channels;
  const int64_t first_pixel = image * shape.out_pixels();
  const int64_t end_pixel = first_pixel + shape.out_pixels();
  const int64_t tile_pixels = PixelsPerTile<T>(work.samples.per_pixel(), std::min<int64_t>(84, shape.out_pixels()));
  TilePlan<T> plan(shape, work.samples, tile_pixels, /*with_gradients=*/true);
  AlignedBuffer<T> dy_tile(tile_pixels * kTileStride<T>);
  AlignedBuffer<T> column_tile(tile_pixels * kTileStride<T>);
  for (int64_t p = 0; p < shape.in_height * shape.in_width; ++p) {
    std::fill_n(dx + image * image_size + p * shape.in_channels + work.chunk.begin(), work.chunk.count(), T(0));
  }
  for (int64_t first = first_pixel; first < end_pixel; first += tile_pixels) {
    const int64_t count = std::min(tile_pixels, end_pixel - first);
    plan.Compute(simd, inputs.x, inputs.offset, inputs.mask, first, count);
    const int64_t sample = work.partial + first * work.samples.per_pixel();
    const int64_t samples = count * work.samples.per_pixel();
    const SampleGradients<T> sums{partials.modulation + sample, partials.row + sample, partials.column + sample};
    std::fill_n(sums.modulation, samples, T(0));
    std::fill_n(sums.row, samples, T(0));
    std::fill_n(sums.column, samples, T(0));
    for (const TransposedKernelBlock& block : work.blocks) {
      const int64_t first_out = block.segment.group * shape.group_out_channels() + block.first_out_channel;
      CopyToTile(dy + first * shape.out_channels + first_out, shape.out_channels, count, block.out_channels,
                 dy_tile.data());
      simd.gemm({count, block.columns(), block.out_channels, dy_tile.data(), /*a_is_transposed=*/false,
                 packed_kernel + block.packed, column_tile.data(), kTileStride<T>,
                 /*accumulate=*/block.first_out_channel > 0});
      if (!block.last_out_channels) continue;
      simd.scatter(plan.Block(block.runs), plan.plan(), plan.gradient_plan(), column_tile.data(),
                   dx + image * image_size, sums);
    }
  }
}

// Sums the chunks' partial gradients into doffset and dmask, in the order of the chunks.
template <typename T>
void SumPartials(const DeformConvShape& shape, const BackwardWork& work, const Partials<T>& partials, int64_t begin,
                 int64_t end, T* doffset, T* dmask) {
  const int64_t per_pixel = shape.samples_per_pixel();
  std::fill(doffset + 2 * begin * per_pixel, doffset + 2 * end * per_pixel, T(0));
  if (dmask != nullptr) std::fill(dmask + begin * per_pixel, dmask + end * per_pixel, T(0));
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    for (const ChunkWork& chunk : work.chunks) {
      const int64_t target = pixel * per_pixel + chunk.samples.first_deformable_group * shape.taps();
      const int64_t source = chunk.partial + pixel * chunk.samples.per_pixel();
      for (int64_t i = 0; i < chunk.samples.per_pixel(); ++i) {
        doffset[2 * (target + i)] += partials.row[source + i];
        doffset[2 * (target + i) + 1] += partials.column[source + i];
        if (dmask != nullptr) dmask[target + i] += partials.modulation[source + i];
      }
    }
  }
}

// Fewer channels per task give more threads work, but each sample costs some work per task whatever its channels: below
// about 8192 multiplications per sample that begins to show. Two tasks there should be at any rate.
int64_t ChannelsPerTask(const DeformConvShape& shape) {
  int64_t channels = 64;
  const auto tasks = [&shape, &channels] { return shape.batch * CeilDiv(shape.in_channels, channels); };
  while (channels > 16 && tasks() < 2) channels /= 2;
  while (channels > 16 && tasks() < 8 && channels / 2 * shape.group_out_channels() >= 8192) channels /= 2;
  return channels;
}

template <typename T>
void ImageAndOffsetGradient(const DeformConvShape& shape, const DeformConvInputs<T>& inputs, const T* dy,
                            const DeformConvGradients<T>& gradients, const ParallelFor& parallel_for) {
  const SimdKernels<T>& simd = BestSimdKernels<T>();
  const BackwardWork work = DivideWork(shape, ChannelsPerTask(shape), kTileStride<T>, simd.gemm_columns);
  AlignedBuffer<T> packed_kernel(work.packed_size);
  AlignedBuffer<T> partial_buffer(3 * work.partial_size);
  const Partials<T> partials{partial_buffer.data(), partial_buffer.data() + work.partial_size,
                             partial_buffer.data() + 2 * work.partial_size};
  const int64_t chunk_count = work.chunks.size();
  const int64_t chunk_weights = work.packed_size / chunk_count;
  parallel_for(chunk_count, 4 * chunk_weights, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      for (const TransposedKernelBlock& block : work.chunks[c].blocks) {
        PackTransposedKernel(shape, inputs.kernel, block, simd.gemm_columns, packed_kernel.data() + block.packed);
      }
    }
  });
  const int64_t cost = shape.out_pixels() * (chunk_weights / 16 + 1);
  parallel_for(shape.batch * chunk_count, cost, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      ImageGradientTask(shape, inputs, dy, simd, packed_kernel.data(), work.chunks[task % chunk_count],
                        task / chunk_count, gradients.x, partials);
    }
  });
  parallel_for(shape.batch * shape.out_pixels(), shape.samples_per_pixel() * chunk_count * 4,
               [&](int64_t begin, int64_t end) {
                 SumPartials(shape, work, partials, begin, end, gradients.offset, gradients.mask);
               });
}

}  // namespace

template <typename T>
void DeformConvBackward(const DeformConvShape& shape, const DeformConvInputs<T>& inputs, const T* dy,
                        const DeformConvGradients<T>& gradients, const ParallelFor& parallel_for) {
  if (shape.empty() || shape.in_height == 0 || shape.in_width == 0) {
    const int64_t samples = shape.batch * shape.out_pixels() * shape.samples_per_pixel();
    std::fill_n(gradients.x, shape.batch * shape.in_height * shape.in_width * shape.in_channels, T(0));
    std::fill_n(gradients.kernel, shape.taps() * shape.group_in_channels() * shape.out_channels, T(0));
    std::fill_n(gradients.offset, 2 * samples, T(0));
    if (gradients.mask != nullptr) std::fill_n(gradients.mask, samples, T(0));
    return;
  }
  KernelGradient(shape, inputs, dy, gradients.kernel, parallel_for);
  ImageAndOffsetGradient(shape, inputs, dy, gradients, parallel_for);
}

template void DeformConvBackward<float>(const DeformConvShape&, const DeformConvInputs<float>&, const float*,
                                        const DeformConvGradients<float>&, const ParallelFor&);
template void DeformConvBackward<double>(const DeformConvShape&, const DeformConvInputs<double>&, const double*,
                                         const DeformConvGradients<double>&, const ParallelFor&);

}  // namespace dcnv2
