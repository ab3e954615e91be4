// The gradients of x, offset and mask on CUDA devices, from dcolumn = dy * kernel^T.
//
// A block owns a tile of output pixels at one tap of one deformable group. It multiplies dy with the tap's slice of the
// kernel, chunk by chunk of channels, leaves the product in shared memory and spreads it from there. So it sees all
// channels that the gradients of its samples' positions and modulations sum over, and writes those once, by itself; dx,
// to which many blocks contribute, takes atomic additions. In fixed order instead: see
// deform_conv_ordered_gradient.h.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cc/lib/gpu/column_gradient.cuh"
#include "cc/lib/gpu/column_spread.cuh"
#include "cc/lib/gpu/column_variants.h"
#include "cc/lib/gpu/deform_conv_backward.h"
#include "cc/lib/gpu/deform_conv_ordered_gradient.h"
#include "cc/lib/gpu/narrow.cuh"

namespace dcnv2 {
namespace {

template <typename S>
struct Task {
  DeformConvShape shape;
  DeformConvInputs<S> inputs;
  const S* dy;
  DeformConvGradients<S> gradients;
  Compute<S>* dx;                      // the sums for gradients.x
  OrderedColumns<Compute<S>> ordered;  // where columns go instead of dx, if anywhere
  int64_t first_pixel, pixels;         // of the batch
};

// What a block works on: a slot, which is a tap of a deformable group, of some pixels.
struct Tile {
  int64_t first;  // of the task's pixels
  int pixels;
  int slot, deformable_group, tap;
};

template <typename S>
__device__ __forceinline__ Tile LocateTile(const Task<S>& task, int pixels_per_tile) {
  // Blocks of the same pixels are neighbours: they read the same dy and much of the same x, and meet in dx.
  const auto slots = static_cast<uint32_t>(task.shape.samples_per_pixel());
  const uint32_t number = blockIdx.x / slots;
  const auto slot = static_cast<int>(blockIdx.x - number * slots);
  const auto taps = static_cast<int>(task.shape.taps());
  const int64_t first = int64_t{number} * pixels_per_tile;
  const int64_t left = task.pixels - first;
  const int deformable_group = slot / taps;
  return {first, static_cast<int>(left < pixels_per_tile ? left : pixels_per_tile), slot, deformable_group,
          slot - deformable_group * taps};
}

// The i-th pixel of the tile, or the one that does not exist.
template <typename S>
__device__ __forceinline__ OutputPixel LocateInTile(const Task<S>& task, const Tile& tile, int i) {
  const int64_t nowhere = task.shape.batch * task.shape.out_pixels();
  return LocatePixel(task.shape, i < tile.pixels ? task.first_pixel + tile.first + i : nowhere);
}

template <typename S>
__device__ __forceinline__ PlannedGradient<Compute<S>> PlanInTile(const Task<S>& task, const Tile& tile,
                                                                  const OutputPixel& pixel) {
  return PlanGradient(
      task.shape, pixel, tile.tap,
      ReadSampleInput(task.shape, pixel, tile.deformable_group, tile.tap, task.inputs.offset, task.inputs.mask));
}

template <typename S>
__device__ __forceinline__ void PlanSpread(const Task<S>& task, const Tile& tile, int i,
                                           const SpreadPlan<Compute<S>>& plan) {
  const OutputPixel pixel = LocateInTile(task, tile, i);
  const PlannedGradient<Compute<S>> planned = PlanInTile(task, tile, pixel);
  plan.Set(i, planned, pixel.image_begin * task.shape.in_channels);
  if (i < tile.pixels && task.ordered.columns != nullptr) {
    task.ordered.first_corner[(tile.first + i) * task.shape.samples_per_pixel() + tile.slot] = planned.corner[0];
  }
}

// Where the columns of the tile's first pixel go instead of dx, if anywhere.
template <typename S>
__device__ __forceinline__ Compute<S>* OrderedTarget(const Task<S>& task, const Tile& tile) {
  if (task.ordered.columns == nullptr) return nullptr;
  return task.ordered.columns + (tile.first * task.shape.taps() + tile.tap) * task.shape.in_channels;
}

template <typename T>
__device__ __forceinline__ T Apply(const T (&form)[4], const T* dots) {
  return form[0] * dots[0] + form[1] * dots[1] + form[2] * dots[2] + form[3] * dots[3];
}

template <typename S>
__device__ __forceinline__ void WriteSampleGradients(const Task<S>& task, const Tile& tile, int i,
                                                     const Compute<S>* dots) {
  const OutputPixel pixel = LocateInTile(task, tile, i);
  // Planned once more, because registers and shared memory are short in between.
  const PlannedGradient<Compute<S>> planned = PlanInTile(task, tile, pixel);
  const int64_t sample = pixel.first_sample + tile.slot;
  task.gradients.offset[2 * sample] = Apply(planned.row_slope, dots);
  task.gradients.offset[2 * sample + 1] = Apply(planned.column_slope, dots);
  if (task.gradients.mask != nullptr) task.gradients.mask[sample] = Apply(planned.interpolation, dots);
}

// Shared memory: the plan, then the columns.
template <typename S, typename Columns, int kPixels>
constexpr int kSharedBytes = kPixels * SpreadPlan<Compute<S>>::kBytesPerPixel + Columns::kSharedBytes;

template <typename S, typename Columns, typename Spread, int kPixels, int kThreads, int kBlocksPerMultiprocessor>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    ImageGradientKernel(const __grid_constant__ Task<S> task) {
  using T = Compute<S>;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  static_assert(kPixels <= kThreads, "every pixel has a thread that plans it");
  const SpreadPlan<T> plan(shared_memory, kPixels);
  unsigned char* const memory = shared_memory + kPixels * SpreadPlan<T>::kBytesPerPixel;
  const DeformConvShape& shape = task.shape;
  const Tile tile = LocateTile(task, kPixels);
  const int own = static_cast<int>(threadIdx.x);
  if (own < kPixels) PlanSpread(task, tile, own, plan);

  const Columns columns(shape, task.inputs.kernel, tile.tap,
                        task.dy + (task.first_pixel + tile.first) * shape.out_channels, tile.pixels);
  const int group_channels = static_cast<int>(shape.deformable_group_channels());
  const int end = (tile.deformable_group + 1) * group_channels;
  for (int channel = end - group_channels; channel < end;) {
    const typename Columns::Chunk chunk = columns.Divide(channel, end);
    const T* product = columns.Multiply(chunk, memory);
    __syncthreads();
    const Spread spread(task.inputs.x, task.dx, shape.in_channels, OrderedTarget(task, tile),
                        shape.taps() * shape.in_channels);
    spread({product, Columns::kStride, chunk.first, chunk.count}, plan);
    __syncthreads();
    channel += chunk.count;
  }
  if (own < tile.pixels) WriteSampleGradients(task, tile, own, plan.dots + 4 * own);
}

// kVector is 1 where nothing can be read as vectors.
template <typename S, TileMath kMath, int kPixels, int kChannels, int kDepth, int kThreads, int kBlocks, int kVector>
struct ImageGradientTile {
  using Columns = ColumnGradient<S, kMath, kPixels, kChannels, kDepth, kThreads, kVector>;
  // Where 16 bytes are more than four channels, lanes have four all the same: additions to dx are of 16 bytes.
  static constexpr int kWidth = std::min(kVector, 4);
  using Spread = ColumnSpread<S, kPixels, kThreads, kChannels / kWidth, kWidth>;
  static constexpr int kBytes = kSharedBytes<S, Columns, kPixels>;

  static int64_t Tiles(const Task<S>& task) { return CeilDiv(task.pixels, kPixels) * task.shape.samples_per_pixel(); }
  static int64_t Chunks(const Task<S>& task) { return CeilDiv(task.shape.deformable_group_channels(), kChannels); }
  static bool Fits(const GpuDevice& device) { return kBytes <= device.shared_memory_per_block; }
  static cudaError_t Launch(const Task<S>& task, cudaStream_t stream) {
    return LaunchKernel(ImageGradientKernel<S, Columns, Spread, kPixels, kThreads, kBlocks>, Tiles(task), kThreads,
                        kBytes, stream, task);
  }
};

// The large tile reads dy and the kernel half as often. Two blocks are to share a multiprocessor, so that one
// multiplies while the other spreads. The depth of a step is 128 bytes of outputs: whole lines of the caches.
template <typename S, TileMath kMath>
cudaError_t LaunchOnMatrixUnits(const GpuDevice& device, const Task<S>& task, cudaStream_t stream) {
  constexpr int kDepth = 128 / sizeof(S);
  constexpr int kVector = 16 / sizeof(S);
  using Large = ImageGradientTile<S, kMath, 128, 128, kDepth, 256, 2, kVector>;
  using Small = ImageGradientTile<S, kMath, 64, 64, kDepth, 128, 4, kVector>;
  // Cycles per step of 32 bytes along the depth, as estimated for the columns of the other passes; here the small tile
  // is bound by the second-level cache.
  const int64_t large = TilesTime(device, Large::Tiles(task), {384, 480}) * Large::Chunks(task);
  const int64_t small = TilesTime(device, Small::Tiles(task), {160, 250}) * Small::Chunks(task);
  return Large::Fits(device) && large < small ? Large::Launch(task, stream) : Small::Launch(task, stream);
}

template <typename S>
cudaError_t SpreadColumns(const GpuDevice& device, const Task<S>& task, const GpuOptions& options,
                          cudaStream_t stream) {
  if constexpr (sizeof(S) <= 4) {
    if (CanReadVectors<S>(task.shape, {task.inputs.x, task.inputs.kernel, task.dy, task.dx})) {
      if constexpr (std::is_same_v<S, float>) {
        if (options.allow_tf32 && device.capability >= 80) {
          return LaunchOnMatrixUnits<S, TileMath::kTf32>(device, task, stream);
        }
        return ImageGradientTile<S, TileMath::kScalar, 64, 64, 32, 128, 3, 4>::Launch(task, stream);
      } else if constexpr (std::is_same_v<S, Half>) {
        return LaunchOnMatrixUnits<S, TileMath::kHalf>(device, task, stream);
      } else if (device.capability >= 80) {
        return LaunchOnMatrixUnits<S, TileMath::kBFloat16>(device, task, stream);
      }
    }
  }
  return ImageGradientTile<S, TileMath::kScalar, 64, 32, 16, 128, 2, 1>::Launch(task, stream);
}

// Where the parts of the workspace begin.
template <typename S>
struct Workspace {
  int64_t columns = 0;  // after the sums, which are elsewhere if the tensor itself is wide enough for them
  int64_t corners = 0, end = 0;
  int64_t band_pixels = 0;

  Workspace(const DeformConvShape& shape, const GpuOptions& options) {
    using T = Compute<S>;
    if (!std::is_same_v<S, T>) columns = RoundUp(InputSize(shape) * sizeof(T));
    corners = end = columns;
    if (!options.deterministic) return;
    const OrderedBand<T> band(shape);
    band_pixels = band.pixels;
    corners = RoundUp(columns + band.columns_bytes);
    end = corners + band.corners_bytes;
  }

  static int64_t InputSize(const DeformConvShape& shape) {
    return shape.batch * shape.in_height * shape.in_width * shape.in_channels;
  }
  static int64_t RoundUp(int64_t bytes) { return CeilDiv(bytes, 256) * 256; }
};

}  // namespace

template <typename S>
int64_t ImageGradientGpuWorkspace(const DeformConvShape& shape, const GpuOptions& options) {
  return Workspace<S>(shape, options).end;
}

template <typename S>
cudaError_t ImageGradientGpu(const DeformConvShape& shape, const DeformConvInputs<S>& inputs, const S* dy,
                             const DeformConvGradients<S>& gradients, void* workspace, const GpuOptions& options,
                             cudaStream_t stream) {
  using T = Compute<S>;
  if (!FitsColumnKernels<S>(shape)) return cudaErrorInvalidValue;
  GpuDevice device;
  cudaError_t status = DescribeGpuFor(options, &device);
  const Workspace<S> parts(shape, options);
  const auto part = [workspace](int64_t offset) { return static_cast<unsigned char*>(workspace) + offset; };
  Task<S> task = {shape, inputs, dy, gradients, nullptr, {}, 0, shape.batch * shape.out_pixels()};
  if constexpr (std::is_same_v<S, T>) {
    task.dx = gradients.x;
  } else {
    task.dx = reinterpret_cast<T*>(part(0));
  }
  const int64_t size = Workspace<S>::InputSize(shape);
  if (status == cudaSuccess) status = cudaMemsetAsync(task.dx, 0, size * sizeof(T), stream);
  if (!options.deterministic) {
    if (status == cudaSuccess) status = SpreadColumns(device, task, options, stream);
  } else {
    task.ordered = {reinterpret_cast<T*>(part(parts.columns)), reinterpret_cast<int32_t*>(part(parts.corners))};
    const int64_t pixels = task.pixels;
    for (int64_t first = 0; first < pixels && status == cudaSuccess; first += task.pixels) {
      task.first_pixel = first;
      task.pixels = std::min(parts.band_pixels, pixels - first);
      status = SpreadColumns(device, task, options, stream);
      if (status != cudaSuccess) break;
      status = AddColumnsInOrder(shape, inputs.offset, inputs.mask, task.ordered, first, task.pixels, task.dx, stream);
    }
  }
  if constexpr (!std::is_same_v<S, T>) {
    if (status == cudaSuccess) status = NarrowSums(task.dx, size, gradients.x, stream);
  }
  return status;
}

#define DCNV2_INSTANTIATE(S)                                                                             \
  template int64_t ImageGradientGpuWorkspace<S>(const DeformConvShape&, const GpuOptions&);              \
  template cudaError_t ImageGradientGpu<S>(const DeformConvShape&, const DeformConvInputs<S>&, const S*, \
                                           const DeformConvGradients<S>&, void*, const GpuOptions&, cudaStream_t)
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
