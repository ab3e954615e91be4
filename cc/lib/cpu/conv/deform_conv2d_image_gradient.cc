// The gradients of x, offset and mask, from dcolumn = dy * kernel^T.
//
// A task owns some channels of one image and walks the image's pixels in order, so it spreads dcolumn over its part of
// dx without atomics. The gradients of offset and mask are forms of the products of dcolumn with the four corners of
// each sample; those are sums over all channels, so tasks leave partial sums, which are added up in a fixed order after
// every band of pixels. The division follows from the shape alone: no result depends on the number of threads.
#include <algorithm>
#include <type_traits>
#include <vector>

#include "cc/lib/cpu/conv/column_gradient.h"
#include "cc/lib/cpu/conv/deform_conv2d_backward.h"
#include "cc/lib/cpu/conv/unit_products.h"
#include "cc/lib/cpu/sum_buffer.h"

namespace dcnv2 {
namespace {

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

template <typename S, typename ColumnGradient>
void ImageGradientTask(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy,
                       const SimdKernels<S>& simd, const ColumnGradient& column_gradient,
                       const typename ColumnGradient::Element* packed_kernel, const ChunkWork& work, int64_t image,
                       const Band& band, const Partials<Compute<S>>& partials, Compute<S>* dx) {
  using T = Compute<S>;
  using Element = typename ColumnGradient::Element;
  const int64_t tile_pixels =
      PixelsPerTile<T>(work.samples.per_pixel(), std::min(ColumnGradient::kTilePixels, band.pixels()));
  const int64_t tile_rows = RoundUp(tile_pixels, ColumnGradient::kRows);
  TilePlan<S> plan(shape, work.samples, tile_pixels, PlanKind::kBackward);
  AlignedBuffer<Element> dy_tile(tile_rows * ColumnGradient::kTileStride);
  AlignedBuffer<T> column_tile(tile_rows * kTileStride<T>);
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
          column_gradient.CopyRow(block, dy + plan.pixels()[p] * shape.out_channels + dy_channel,
                                  dy_tile.data() + p * ColumnGradient::kTileStride);
        }
      }
      column_gradient.Multiply(block, count, dy_tile.data(), packed_kernel + block.packed, column_tile.data());
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

template <typename S, typename ColumnGradient>
void GradientsBy(const ColumnGradient& column_gradient, const DeformConv2DShape& shape,
                 const DeformConv2DInputs<S>& inputs, const S* dy, const DeformConv2DGradients<S>& gradients,
                 const ParallelFor& parallel_for) {
  using T = Compute<S>;
  const SimdKernels<S>& simd = BestSimdKernels<S>();
  const Work& work = column_gradient.work();
  const int64_t chunk_count = work.chunks.size();
  const int64_t chunk_weights = work.packed_size / chunk_count;
  AlignedBuffer<typename ColumnGradient::Element> packed_kernel(work.packed_size);
  parallel_for(chunk_count, 4 * chunk_weights, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      for (const TransposedKernelBlock& block : work.chunks[c].blocks) {
        column_gradient.Pack(inputs.kernel, block, packed_kernel.data() + block.packed);
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
        ImageGradientTask(shape, inputs, dy, simd, column_gradient, packed_kernel.data(),
                          work.chunks[task % chunk_count], task / chunk_count, band, partials, dx.data());
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

}  // namespace

template <typename S>
void ImageAndSampleGradients(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy,
                             const DeformConv2DGradients<S>& gradients, const ParallelFor& parallel_for) {
  const auto by = [&](const auto& column_gradient) {
    GradientsBy(column_gradient, shape, inputs, dy, gradients, parallel_for);
  };
  if constexpr (std::is_same_v<S, BFloat16>) {
    if (const MatrixUnits* units = MatrixUnitsFor(shape)) return by(UnitColumnGradient(shape, *units));
  }
  if (HasNarrowGroups(shape, BestSimdKernels<S>().lanes)) return by(NarrowGroupColumnGradient<S>(shape));
  by(PanelColumnGradient<S>(shape));
}

#define DCNV2_INSTANTIATE(S)                                                                                 \
  template void ImageAndSampleGradients<S>(const DeformConv2DShape&, const DeformConv2DInputs<S>&, const S*, \
                                           const DeformConv2DGradients<S>&, const ParallelFor&)
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
