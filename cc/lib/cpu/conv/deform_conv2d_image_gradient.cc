// The gradients of x, offset and mask, from dcolumn = dy * kernel^T.
//
// A task owns some channels of one image and walks the image's pixels in order, so it spreads dcolumn over its part of
// dx without atomics. The gradients of offset and mask are forms of the products of dcolumn with the four corners of
// each sample; those are sums over all channels, so tasks leave partial sums, which are added up in a fixed order after
// every band of pixels. The division follows from the shape alone: no result depends on the number of threads.
#include <algorithm>
#include <vector>

#include "cc/lib/cpu/conv/deform_conv2d_backward.h"
#include "cc/lib/cpu/sum_buffer.h"

namespace dcnv2 {
namespace {

// A block of kernel^T: rows are output channels of a group, columns are `taps` x the channels of one segment. Of narrow
// groups, the segment and the output channels are those of a chunk, and the packed block is [tap, output, channel].
struct TransposedKernelBlock {
  ChannelSegment segment;
  int64_t first_tap, taps;
  int64_t first_out_channel, out_channels;  // among all; within one group
  bool accumulate;                          // adds to the block before
  bool complete;                            // no further block adds to it
  int64_t packed;
  std::vector<ChannelRun> runs;

  int64_t columns() const { return taps * segment.count; }
};

// What one task needs to know about its chunk of channels.
struct ChunkWork {
  ChannelChunk chunk;
  SampleRange samples;
  std::vector<TransposedKernelBlock> blocks;
  int64_t first_partial;  // samples of the chunks before, per pixel
};

struct Work {
  std::vector<ChunkWork> chunks;
  int64_t packed_size = 0;
  int64_t partials_per_pixel = 0;  // samples of all chunks
};

// Fewer channels per task give more threads work, but each sample costs some work per task whatever its channels: below
// about 8192 multiplications per sample that begins to show. Two tasks there should be at any rate.
int64_t ChannelsPerTask(const DeformConv2DShape& shape) {
  int64_t channels = 64;
  const auto tasks = [&shape, &channels] { return shape.batch * CeilDiv(shape.in_channels, channels); };
  while (channels > 16 && tasks() < 2) channels /= 2;
  while (channels > 16 && tasks() < 8 && channels / 2 * shape.group_out_channels() >= 8192) channels /= 2;
  return channels;
}

Work DivideGroups(const DeformConv2DShape& shape, int64_t tile_columns, int64_t panel) {
  Work work;
  for (ChannelChunk& chunk : DivideChannels(shape, ChannelsPerTask(shape))) {
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
          work.packed_size += PackedGemmBSize(outs, block.columns(), panel);
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
  for (ChannelChunk& chunk : DivideChannels(WithoutGroups(shape), ChannelsPerTask(shape))) {
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

// Packs kernel^T[out channel, (tap, channel)] of one block, a few output channels at a time: a panel is written across
// its rows, and so many of them stay in the first-level cache.
template <typename S>
void PackTransposedKernel(const DeformConv2DShape& shape, const S* kernel, const TransposedKernelBlock& block,
                          int64_t panel, Compute<S>* packed) {
  constexpr int64_t kStep = 16;
  const int64_t channel_in_group = block.segment.begin - block.segment.group * shape.group_in_channels();
  for (int64_t first = 0; first < block.columns(); first += panel, packed += panel * block.out_channels) {
    const int64_t end = std::min(first + panel, block.columns());
    if (end < first + panel) std::fill_n(packed, panel * block.out_channels, Compute<S>(0));
    for (int64_t out = 0; out < block.out_channels; out += kStep) {
      const int64_t out_end = std::min(out + kStep, block.out_channels);
      for (int64_t j = first; j < end; ++j) {
        const int64_t tap = block.first_tap + j / block.segment.count;
        const int64_t channel = channel_in_group + j % block.segment.count;
        const S* row =
            kernel + (tap * shape.group_in_channels() + channel) * shape.out_channels + block.first_out_channel;
        for (int64_t o = out; o < out_end; ++o) packed[o * panel + j - first] = Widen(row[o]);
      }
    }
  }
}

// Likewise of narrow groups, whose rows of channels are padded to whole vectors.
template <typename S>
void PackNarrowTransposedKernel(const DeformConv2DShape& shape, const S* kernel, const TransposedKernelBlock& block,
                                int64_t lanes, Compute<S>* packed) {
  const int64_t group = shape.group_out_channels();
  for (int64_t tap = block.first_tap; tap < block.first_tap + block.taps; ++tap) {
    for (int64_t out = 0; out < group; ++out, packed += RoundUp(block.out_channels, lanes)) {
      for (int64_t c = 0; c < block.out_channels; ++c) {
        const S* row = kernel + (tap * group + c % group) * shape.out_channels + block.first_out_channel;
        packed[c] = Widen(row[c / group * group + out]);
      }
    }
  }
}

// Pixels [begin, end) of every image, in the PixelOrder.
struct Band {
  int64_t begin, end;
  int64_t pixels() const { return end - begin; }
};

// dots[4] of every sample of a chunk: the products of its dcolumn with the corners of the sample. Laid out as
// [image, chunk, pixel of the band, sample, corner].
template <typename T>
struct Partials {
  T* data;
  int64_t max_pixels;  // of a band
  int64_t per_pixel;

  T* at(int64_t image, const ChunkWork& work, int64_t pixel) const {
    return data + 4 * ((image * per_pixel + work.first_partial) * max_pixels + pixel * work.samples.per_pixel());
  }
};

template <typename S>
void ImageGradientTask(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy,
                       const SimdKernels<S>& simd, const Compute<S>* packed_kernel, const ChunkWork& work,
                       int64_t image, const Band& band, const Partials<Compute<S>>& partials, Compute<S>* dx) {
  using T = Compute<S>;
  const int64_t tile_pixels = PixelsPerTile<T>(work.samples.per_pixel(), std::min(kTilePixels, band.pixels()));
  TilePlan<S> plan(shape, work.samples, tile_pixels, PlanKind::kBackward);
  AlignedBuffer<T> dy_tile(tile_pixels * kTileStride<T>);
  AlignedBuffer<T> column_tile(tile_pixels * kTileStride<T>);
  dx += image * shape.in_height * shape.in_width * shape.in_channels;
  if (band.begin == 0) {
    for (int64_t p = 0; p < shape.in_height * shape.in_width; ++p) {
      std::fill_n(dx + p * shape.in_channels + work.chunk.begin(), work.chunk.count(), T(0));
    }
  }
  for (int64_t first = band.begin; first < band.end; first += tile_pixels) {
    const int64_t count = std::min(tile_pixels, band.end - first);
    plan.Update(simd, inputs.x, inputs.offset, inputs.mask, image * shape.out_pixels() + first, count);
    T* dots = partials.at(image, work, first - band.begin);
    std::fill_n(dots, 4 * count * work.samples.per_pixel(), T(0));
    int64_t dy_channel = -1;
    for (const TransposedKernelBlock& block : work.blocks) {
      if (block.first_out_channel != dy_channel) {
        dy_channel = block.first_out_channel;
        for (int64_t p = 0; p < count; ++p) {
          const S* row = dy + plan.pixels()[p] * shape.out_channels + dy_channel;
          for (int64_t o = 0; o < block.out_channels; ++o) dy_tile[p * kTileStride<T> + o] = Widen(row[o]);
        }
      }
      const T* kernel = packed_kernel + block.packed;
      if (HasNarrowGroups(shape, simd.lanes)) {
        const int64_t width = RoundUp(block.out_channels, simd.lanes);
        for (int64_t tap = 0; tap < block.taps; ++tap, kernel += shape.group_out_channels() * width) {
          simd.group_product({count, block.out_channels, shape.group_out_channels(), 1, dy_tile.data(), kTileStride<T>,
                              kernel, width, column_tile.data() + tap * width, kTileStride<T>, /*accumulate=*/false});
        }
      } else {
        simd.gemm({count, block.columns(), block.out_channels, dy_tile.data(), kTileStride<T>, kernel,
                   column_tile.data(), kTileStride<T>, block.accumulate});
      }
      if (block.complete) simd.scatter(plan.Block(block.runs), plan.plan(), column_tile.data(), dx, dots);
    }
  }
}

// Gradients of offset and mask at pixels [begin, begin + count) of one image within the band.
template <typename S>
void SampleGradients(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const SimdKernels<S>& simd,
                     const Work& work, const Partials<Compute<S>>& partials, int64_t image, const Band& band,
                     int64_t begin, int64_t count, TilePlan<S>* plan, std::vector<Compute<S>>* dots,
                     const DeformConv2DGradients<S>& gradients) {
  using T = Compute<S>;
  const int64_t per_pixel = shape.samples_per_pixel();
  dots->assign(4 * count * per_pixel, T(0));
  for (const ChunkWork& chunk : work.chunks) {
    const int64_t size = 4 * chunk.samples.per_pixel();
    const T* source = partials.at(image, chunk, begin);
    for (int64_t p = 0; p < count; ++p) {
      T* target = dots->data() + 4 * (p * per_pixel + chunk.samples.first_deformable_group * shape.taps());
      for (int64_t i = 0; i < size; ++i) target[i] += source[p * size + i];
    }
  }
  plan->Update(simd, inputs.x, inputs.offset, inputs.mask, image * shape.out_pixels() + band.begin + begin, count);
  const SampleGradientPlan<T>& forms = plan->gradient_plan();
  const auto apply = [&dots](const T* const(&form)[4], int64_t sample) {
    const T* dot = dots->data() + 4 * sample;
    return form[0][sample] * dot[0] + form[1][sample] * dot[1] + form[2][sample] * dot[2] + form[3][sample] * dot[3];
  };
  for (int64_t p = 0; p < count; ++p) {
    const int64_t first_sample = plan->pixels()[p] * per_pixel;
    for (int64_t i = 0; i < per_pixel; ++i) {
      const int64_t planned = p * per_pixel + i;
      gradients.offset[2 * (first_sample + i)] = apply(forms.row_slope, planned);
      gradients.offset[2 * (first_sample + i) + 1] = apply(forms.column_slope, planned);
      if (gradients.mask != nullptr) gradients.mask[first_sample + i] = apply(forms.interpolation, planned);
    }
  }
}

// Bands bound the memory of the partial sums, whatever the size of the image.
int64_t PixelsPerBand(const DeformConv2DShape& shape, const Work& work) {
  constexpr int64_t kPartials = int64_t{1} << 18;
  constexpr int64_t kFewest = 64;
  const int64_t wanted = std::max(kPartials / (shape.batch * work.partials_per_pixel), kFewest);
  return std::min(wanted, shape.out_pixels());
}

}  // namespace

template <typename S>
void ImageAndSampleGradients(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy,
                             const DeformConv2DGradients<S>& gradients, const ParallelFor& parallel_for) {
  using T = Compute<S>;
  const SimdKernels<S>& simd = BestSimdKernels<S>();
  const bool narrow_groups = HasNarrowGroups(shape, simd.lanes);
  const Work work = narrow_groups ? DivideNarrowGroups(shape, kTileStride<T>, simd.lanes)
                                  : DivideGroups(shape, kTileStride<T>, simd.gemm_columns);
  const int64_t chunk_count = work.chunks.size();
  const int64_t chunk_weights = work.packed_size / chunk_count;
  AlignedBuffer<T> packed_kernel(work.packed_size);
  parallel_for(chunk_count, 4 * chunk_weights, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      for (const TransposedKernelBlock& block : work.chunks[c].blocks) {
        T* packed = packed_kernel.data() + block.packed;
        if (narrow_groups) {
          PackNarrowTransposedKernel(shape, inputs.kernel, block, simd.lanes, packed);
        } else {
          PackTransposedKernel(shape, inputs.kernel, block, simd.gemm_columns, packed);
        }
      }
    }
  });

  SumBuffer<S> dx(gradients.x, shape.batch * shape.in_height * shape.in_width * shape.in_channels);
  const int64_t band_pixels = PixelsPerBand(shape, work);
  AlignedBuffer<T> partial_buffer(4 * shape.batch * work.partials_per_pixel * band_pixels);
  const Partials<T> partials{partial_buffer.data(), band_pixels, work.partials_per_pixel};
  for (int64_t begin = 0; begin < shape.out_pixels(); begin += band_pixels) {
    const Band band{begin, std::min(begin + band_pixels, shape.out_pixels())};
    parallel_for(shape.batch * chunk_count, band.pixels() * (chunk_weights / 16 + 1), [&](int64_t first, int64_t last) {
      for (int64_t task = first; task < last; ++task) {
        ImageGradientTask(shape, inputs, dy, simd, packed_kernel.data(), work.chunks[task % chunk_count],
                          task / chunk_count, band, partials, dx.data());
      }
    });
    const int64_t cost = shape.samples_per_pixel() * (20 + 4 * chunk_count);
    parallel_for(shape.batch * band.pixels(), cost, [&](int64_t first, int64_t last) {
      const int64_t tile_pixels = PixelsPerTile<T>(shape.samples_per_pixel(), std::min(kTilePixels, last - first));
      TilePlan<S> plan(shape, AllSamples(shape), tile_pixels, PlanKind::kWithGradients);
      std::vector<T> dots;
      while (first < last) {
        const int64_t pixel = first % band.pixels();
        const int64_t count = std::min({tile_pixels, last - first, band.pixels() - pixel});
        SampleGradients(shape, inputs, simd, work, partials, first / band.pixels(), band, pixel, count, &plan, &dots,
                        gradients);
        first += count;
      }
    });
  }
  dx.Finish(parallel_for);
}

#define DCNV2_INSTANTIATE(S)                                                                                 \
  template void ImageAndSampleGradients<S>(const DeformConv2DShape&, const DeformConv2DInputs<S>&, const S*, \
                                           const DeformConv2DGradients<S>&, const ParallelFor&)
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
