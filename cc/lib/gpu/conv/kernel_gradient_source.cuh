// Where a block of the kernel gradient finds what it multiplies: its tile of the kernel, and the pixels of its slice.
#ifndef DCNV2_CC_LIB_GPU_CONV_KERNEL_GRADIENT_SOURCE_CUH_
#define DCNV2_CC_LIB_GPU_CONV_KERNEL_GRADIENT_SOURCE_CUH_

#include "cc/lib/gpu/conv/column_product.cuh"
#include "cc/lib/gpu/conv/column_variants.h"
#include "cc/lib/gpu/conv/pixel_strips.cuh"

namespace dcnv2 {

template <typename S>
struct KernelGradientArguments {
  DeformConv2DShape shape;
  ColumnSizes sizes;
  DeformConv2DInputs<S> inputs;
  const S* dy;
  S* dkernel;
  Compute<S>* partial_sums;  // [slice, size of the kernel]; null where there is a single slice
  PixelStrips strips;
  int slice_pixels;
  int channel_tiles, output_tiles;  // the former per deformable group
};

// Ranges of channels and outputs, among all of them. No outputs is nothing to do.
struct KernelTile {
  int tap, deformable_group;
  int first_channel, end_channel;
  int first_output, end_output;
};

// `columns` outputs of those of all groups that the tile's channels belong to.
__host__ __device__ inline KernelTile LocateKernelTile(const ColumnSizes& sizes, int tap, int deformable_group,
                                                       int channel_tile, int output_tile, int rows, int columns) {
  const int channels = sizes.deformable_group_channels;
  const int first = deformable_group * channels + channel_tile * rows;
  const int end = min(first + rows, (deformable_group + 1) * channels);
  const int first_output = first / sizes.group_channels * sizes.group_outputs + output_tile * columns;
  const int end_output = ((end - 1) / sizes.group_channels + 1) * sizes.group_outputs;
  return {tap, deformable_group, first, end, first_output, min(first_output + columns, end_output)};
}

// The steps of one tile along the depth: the pixels of its slice.
template <typename S, typename Columns>
class KernelGradientSource {
 public:
  using T = Compute<S>;
  struct Chunk {
    int first_pixel;  // in the slice
    int channel, count;
    int plan_slot;
  };

  __device__ __forceinline__ KernelGradientSource(const KernelGradientArguments<S>& arguments, const KernelTile& tile,
                                                  int64_t first_pixel, int pixels)
      : arguments_(arguments), tile_(tile), first_pixel_(first_pixel), pixels_(pixels) {}

  __device__ __forceinline__ int channels() const { return arguments_.sizes.channels; }

  __device__ __forceinline__ Chunk First() const {
    return {0, tile_.first_channel, tile_.end_channel - tile_.first_channel, 0};
  }
  __device__ __forceinline__ void Advance(Chunk* chunk) const {
    chunk->first_pixel += Columns::kPixels;
    chunk->plan_slot = Columns::NextSlot(chunk->plan_slot);
  }
  __device__ __forceinline__ bool IsEnd(const Chunk& chunk) const { return chunk.first_pixel >= pixels_; }

  __device__ __forceinline__ bool NeedsPlan(const Chunk& chunk) const {
    return chunk.first_pixel % Columns::kPlannedPixelsAtOnce == 0;
  }
  __device__ __forceinline__ SampleInput<T> ReadInput(const Chunk& chunk) const {
    return ReadSampleInput(arguments_.shape, Pixel(chunk), tile_.deformable_group, tile_.tap, arguments_.inputs.offset,
                           arguments_.inputs.mask);
  }
  __device__ __forceinline__ GatherPlan<S> MakePlan(const Chunk& chunk, const SampleInput<T>& input) const {
    // Locating the pixel again is cheaper than keeping where it is during a product.
    const OutputPixel pixel = Pixel(chunk);
    return {PlanSample(arguments_.shape, pixel, tile_.tap, input),
            arguments_.inputs.x + pixel.image_begin * arguments_.shape.in_channels, pixel.index};
  }

  __device__ __forceinline__ void CopyB(const Chunk& chunk, const GatherPlan<S>* plans,
                                        typename Columns::Element* tile) const {
    const int output = tile_.first_output + Columns::CopiedColumn();
    const int end = output < tile_.end_output ? pixels_ - chunk.first_pixel : 0;
    const S* const dy = arguments_.dy + output;
    Columns::CopyRows(
        [=](int row, const S** address) {
          *address = dy + plans[row].pixel * arguments_.sizes.outputs;
          return row < end;
        },
        tile);
  }

 private:
  // Of the thread. What is planned beyond the end of a slice is of no use, and no harm.
  __device__ __forceinline__ OutputPixel Pixel(const Chunk& chunk) const {
    return arguments_.strips.Locate(arguments_.shape, first_pixel_ + chunk.first_pixel + threadIdx.x);
  }

  const KernelGradientArguments<S>& arguments_;
  const KernelTile tile_;
  const int64_t first_pixel_;
  const int pixels_;
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_CONV_KERNEL_GRADIENT_SOURCE_CUH_
