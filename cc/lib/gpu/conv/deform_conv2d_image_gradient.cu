// The gradients of x, offset and mask on CUDA devices, from dcolumn = dy * kernel^T.
//
// A block owns a tile of output pixels and, for one deformable group, all taps or some. Chunk by chunk of channels, and
// within a chunk tap by tap, it multiplies dy with its slice of the kernel and leaves the product in shared memory.
// Four warps then sum what it adds to dx in a window of the map; the others, if there are any, form its products with
// x, of which the gradients of offset and mask are made when all channels have been seen. Those a block writes once, by
// itself. To dx, where the windows of neighbouring blocks overlap, it adds atomically. In fixed order instead: see
// deform_conv2d_ordered_gradient.h.
//
// With a 3 x 3 kernel and offsets of two pixels' deviation, windows of 8 x 8 output pixels add a tenth of the numbers
// that their samples would, which are 36 for every output pixel and channel (counted on the emulated device).
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cc/lib/gpu/common/narrow.cuh"
#include "cc/lib/gpu/conv/column_dots.cuh"
#include "cc/lib/gpu/conv/column_gradient.cuh"
#include "cc/lib/gpu/conv/column_variants.h"
#include "cc/lib/gpu/conv/deform_conv2d_backward.h"
#include "cc/lib/gpu/conv/deform_conv2d_ordered_gradient.h"
#include "cc/lib/gpu/conv/gradient_tiling.h"
#include "cc/lib/gpu/conv/gradient_window.cuh"
#include "cc/lib/gpu/conv/pixel_strips.cuh"

namespace dcnv2 {
namespace {

template <typename S>
struct Task {
  DeformConv2DShape shape;
  DeformConv2DInputs<S> inputs;
  const S* dy;
  DeformConv2DGradients<S> gradients;
  Compute<S>* dx;                      // the sums for gradients.x, if they are wanted
  OrderedColumns<Compute<S>> ordered;  // where columns go instead of dx, if anywhere
  int64_t first_pixel;                 // of the batch
  PixelMaps maps;                      // from there on
  PixelStrips pixels;                  // of the batch
  GradientTiling tiling;

  __host__ __device__ bool has_window() const { return dx != nullptr && ordered.columns == nullptr; }
  __host__ __device__ bool has_dots() const { return gradients.offset != nullptr; }
};

// What a block works on.
struct Part {
  PixelTile tile;
  int deformable_group, first_tap, end_tap;
  WindowPlace window;
};

template <typename S>
__device__ __forceinline__ WindowPlace PlaceWindow(const Task<S>& task, int64_t row, int64_t column, int first_tap) {
  const DeformConv2DShape& shape = task.shape;
  const GradientTiling& tiling = task.tiling;
  const auto kernel_width = static_cast<int>(shape.kernel_width);
  const int tap_row = first_tap / kernel_width, tap_column = first_tap - tap_row * kernel_width;
  const int64_t top = row * shape.stride.height - shape.padding_before.height + tap_row * shape.dilation.height;
  const int64_t left = column * shape.stride.width - shape.padding_before.width + tap_column * shape.dilation.width;
  // All of it lies on the map.
  const auto place = [](int64_t first, int window, int64_t size) {
    const int64_t last = size - window;
    return static_cast<int32_t>(first < 0 ? 0 : first < last ? first : last);
  };
  return {place(top - tiling.margin_above, tiling.window_rows, shape.in_height),
          place(left - tiling.margin_left, tiling.window_columns, shape.in_width), tiling.window_rows,
          tiling.window_columns};
}

template <typename S>
__device__ __forceinline__ Part LocatePart(const Task<S>& task) {
  const GradientTiling& tiling = task.tiling;
  // Blocks of the same pixels are neighbours: they read the same dy and much of the same x, and meet in dx.
  const auto parts = static_cast<uint32_t>(tiling.parts);
  const uint32_t parts_of_tile = parts * static_cast<uint32_t>(task.shape.deformable_groups);
  const uint32_t number = blockIdx.x / parts_of_tile, part = blockIdx.x - number * parts_of_tile;
  const auto tiles_per_map = static_cast<uint32_t>(tiling.tiles_per_map);
  const auto tiles_per_row = static_cast<uint32_t>(tiling.tiles_per_row);
  const uint32_t map = number / tiles_per_map, in_map = number - map * tiles_per_map;
  const int64_t row = int64_t{in_map / tiles_per_row} * tiling.rows;
  const int64_t column = int64_t{in_map % tiles_per_row} * tiling.columns;

  Part located;
  located.tile.first = task.first_pixel + (map * task.maps.height + row) * task.maps.width + column;
  located.tile.width = tiling.columns;
  located.tile.rows = static_cast<int>(min(int64_t{tiling.rows}, task.maps.height - row));
  located.tile.columns = static_cast<int>(min(int64_t{tiling.columns}, task.maps.width - column));
  located.tile.map_width = task.maps.width;
  located.deformable_group = static_cast<int>(part / parts);
  located.first_tap = static_cast<int>(part % parts) * tiling.taps;
  located.end_tap = min(located.first_tap + tiling.taps, static_cast<int>(task.shape.taps()));
  located.window = PlaceWindow(task, row, column, located.first_tap);
  return located;
}

// What a block keeps in shared memory, one after the other. All of it begins at multiples of 16 bytes.
template <typename T, typename Columns, typename Window, int kPixels>
struct BlockMemory {
  unsigned char* columns;
  unsigned char* shares;
  int4* corners;  // of every pixel's sample at the current tap
  OutputPixel* pixels;
  int64_t* origins;  // the first elements of their images in x
  T* dots;           // [tap of the block, pixel, corner]
  unsigned char* window;

  static constexpr int kBytes = Columns::kSharedBytes + Window::kShareBytes +
                                kPixels * static_cast<int>(sizeof(int4) + sizeof(OutputPixel) + sizeof(int64_t));
  static constexpr int kBytesPerTap = 4 * kPixels * sizeof(T);  // of dots, where they are wanted

  __device__ __forceinline__ BlockMemory(unsigned char* memory, int dots_taps)
      : columns(memory),
        shares(columns + Columns::kSharedBytes),
        corners(reinterpret_cast<int4*>(shares + Window::kShareBytes)),
        pixels(reinterpret_cast<OutputPixel*>(corners + kPixels)),
        origins(reinterpret_cast<int64_t*>(pixels + kPixels)),
        dots(reinterpret_cast<T*>(origins + kPixels)),
        window(reinterpret_cast<unsigned char*>(dots) + dots_taps * kBytesPerTap) {}
};

template <typename T>
__device__ __forceinline__ T Apply(const T (&form)[4], const T* dots) {
  return form[0] * dots[0] + form[1] * dots[1] + form[2] * dots[2] + form[3] * dots[3];
}

template <typename S>
__device__ __forceinline__ void WriteSampleGradients(const Task<S>& task, int deformable_group, int tap,
                                                     const OutputPixel& pixel, const Compute<S>* dots) {
  using T = Compute<S>;
  // Planned once more, because registers and shared memory are short in between.
  const PlannedGradient<T> planned =
      PlanGradient(task.shape, pixel, tap,
                   ReadSampleInput(task.shape, pixel, deformable_group, tap, task.inputs.offset, task.inputs.mask));
  const int64_t sample = pixel.first_sample + deformable_group * task.shape.taps() + tap;
  task.gradients.offset[2 * sample] = Apply(planned.row_slope, dots);
  task.gradients.offset[2 * sample + 1] = Apply(planned.column_slope, dots);
  if (task.gradients.mask != nullptr) task.gradients.mask[sample] = Apply(planned.interpolation, dots);
}

// As many as there are registers for.
template <int kThreads>
constexpr int kBlocksPerMultiprocessor = 256 / kThreads;

template <typename S, typename Columns, typename Window, typename Dots, int kPixels, int kThreads>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor<kThreads>)
    ImageGradientKernel(const __grid_constant__ Task<S> task) {
  using T = Compute<S>;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  static_assert(kPixels <= kThreads, "every pixel has a thread that plans it");
  const DeformConv2DShape& shape = task.shape;
  const Part part = LocatePart(task);
  const int own = static_cast<int>(threadIdx.x);
  const BlockMemory<T, Columns, Window, kPixels> memory(shared_memory, task.has_dots() ? task.tiling.taps : 0);

  const int group_channels = static_cast<int>(shape.deformable_group_channels());
  const int first_channel = part.deformable_group * group_channels, end_channel = first_channel + group_channels;
  Columns columns(shape, task.inputs.kernel, task.dy, part.tile, memory.columns);
  typename Columns::Chunk chunk = columns.Divide(first_channel, end_channel);
  int tap = part.first_tap;
  columns.Select(chunk);
  columns.Begin(chunk, tap);

  const Window window(part.window, memory.shares, memory.window);
  const MapSums<T> map = {task.dx, static_cast<int32_t>(shape.in_width), shape.in_channels};
  if (task.has_window()) window.Clear();
  if (task.has_dots()) {
#pragma unroll 1
    for (int i = own; i < 4 * kPixels * task.tiling.taps; i += kThreads) memory.dots[i] = T(0);
  }
  if (own < kPixels) {
    const uint32_t offset = part.tile.Offset(own);
    const int64_t nowhere = shape.batch * shape.out_pixels();
    const int64_t ordinal = offset == PixelTile::kNone ? nowhere : part.tile.first + offset;
    const OutputPixel pixel = task.pixels.Locate(shape, ordinal);
    memory.pixels[own] = pixel;
    memory.origins[own] = pixel.image_begin * shape.in_channels;
  }
  // Owners have the window to do. The products with x are left to the other threads, if there are any.
  const bool owns = task.has_window() && own < Window::kOwners;
  const int first_dotting = task.has_window() ? Window::kOwners % kThreads : 0;
  const Dots dots(task.inputs.x, shape.in_channels, memory.corners, memory.origins, first_dotting);

  for (bool more = true; more;) {
    SampleInput<T> input = {};
    if (own < kPixels) {
      input =
          ReadSampleInput(shape, memory.pixels[own], part.deformable_group, tap, task.inputs.offset, task.inputs.mask);
    }
    const ColumnChunk<T> product = columns.Multiply(chunk);
    // All taps of a chunk come before the next one.
    const bool last_tap = tap + 1 == part.end_tap;
    const int next_tap = last_tap ? part.first_tap : tap + 1;
    const int next_channel = last_tap ? chunk.first + chunk.count : chunk.first;
    more = next_channel < end_channel;
    if (more) {
      if (last_tap) {
        chunk = columns.Divide(next_channel, end_channel);
        columns.Select(chunk);
      }
      columns.Begin(chunk, next_tap);
    }
    if (own < kPixels) {
      const BilinearSample<T> sample = LocateSample(shape, memory.pixels[own], tap, input);
      const PlannedGradient<T> planned = PlanGradient(shape, memory.pixels[own], sample, input.modulation);
      memory.corners[own] = make_int4(planned.corner[0], planned.corner[1], planned.corner[2], planned.corner[3]);
      if (task.has_window()) window.Plan(own, sample, planned);
      if (task.ordered.columns != nullptr && memory.pixels[own].first_sample >= 0) {
        const int64_t sample_of_band = (part.tile.first - task.first_pixel + own) * shape.samples_per_pixel() +
                                       part.deformable_group * shape.taps() + tap;
        task.ordered.first_corner[sample_of_band] = planned.corner[0];
      }
    }
    __syncthreads();
    if (owns) window.Add(product, map, memory.origins);
    if (own >= first_dotting) {
      if (task.has_dots()) dots.Add(product, memory.dots + 4 * kPixels * (tap - part.first_tap));
      if (task.ordered.columns != nullptr) {
        const int64_t first = (part.tile.first - task.first_pixel) * shape.taps() + tap;
        dots.Store(product, task.ordered.columns + first * shape.in_channels, shape.taps() * shape.in_channels);
      }
    }
    if (last_tap && task.has_window()) {
      __syncthreads();
      window.Flush(product, map, memory.origins[0]);
    }
    tap = next_tap;
  }

  if (!task.has_dots()) return;
  __syncthreads();
  for (int i = own; i < kPixels * (part.end_tap - part.first_tap); i += kThreads) {
    const OutputPixel& located = memory.pixels[i % kPixels];
    if (located.first_sample < 0) continue;
    WriteSampleGradients(task, part.deformable_group, part.first_tap + i / kPixels, located, memory.dots + 4 * i);
  }
}

// kVector is 1 where nothing can be read as vectors.
template <typename S, TileMath kMath, int kPixels, int kChannels, int kDepth, int kThreads, int kVector>
struct ImageGradientBlocks {
  using T = Compute<S>;
  using Columns = ColumnGradient<S, kMath, kPixels, kChannels, kDepth, kThreads, kVector>;
  // Where 16 bytes are more than four channels, lanes have four all the same: additions to dx are of 16 bytes.
  static constexpr int kWidth = std::min(kVector, 4);
  using Window = GradientWindow<T, kPixels, kChannels, kThreads, kWidth>;
  using Dots = ColumnDots<S, kPixels, kThreads, kChannels / kWidth, kWidth>;
  using Memory = BlockMemory<T, Columns, Window, kPixels>;
  static constexpr int kMostBlocks = kBlocksPerMultiprocessor<kThreads>;

  static int DotsBytes(const Task<S>& task, int taps) { return task.has_dots() ? taps * Memory::kBytesPerTap : 0; }

  static GradientBlock Describe(const Task<S>& task) {
    const DeformConv2DShape& shape = task.shape;
    const int64_t groups = std::min(CeilDiv(kChannels, shape.group_in_channels()), shape.groups);
    const auto outputs = static_cast<double>(groups * shape.group_out_channels());
    // For a sample and an output. Operands are written to shared memory once and read about twice, 128 bytes a cycle.
    // Units multiply as tile_product_tensor.cuh and its scalar sibling count; others than these are faster.
    constexpr double kOperands = sizeof(S) * static_cast<double>(kPixels + kChannels) / kPixels;
    constexpr double kMultiplying = kMath == TileMath::kScalar   ? kChannels / 128.0
                                    : kMath == TileMath::kTf32x3 ? kChannels / 220.0
                                                                 : 0;
    // Before all that the sample is planned, for which everybody waits.
    const double sample = 8 + 0.6 * kChannels + outputs * std::max(3 * kOperands / 128, kMultiplying);
    // A multiprocessor's share of the second-level cache is about 48 bytes a cycle, or 2.4 atomic additions: four for a
    // sample and channel, one for a pixel of the window. Half of what samples read is assumed to come from the
    // first-level cache.
    const double bandwidth = (outputs * kOperands + 2.0 * kChannels * sizeof(S)) / 48;
    // Where half of the threads own the window, the others do something else meanwhile.
    const bool has_both_halves = task.has_window() && kThreads > Window::kOwners;
    return {Memory::kBytes,
            DotsBytes(task, 1),
            task.has_window() ? Window::kPixelBytes : 0,
            CeilDiv(shape.deformable_group_channels(), kChannels),
            std::max(sample, bandwidth),
            2.0 * kChannels,
            0.5 * kChannels,
            has_both_halves ? 1 : 1 + 64.0 / kThreads};
  }

  static cudaError_t Launch(const GpuDevice& device, const GpuTuning& tuning, Task<S> task,
                            const GradientTiling& tiling, cudaStream_t stream) {
    task.tiling = tiling;
    const int window = task.has_window() ? Window::Bytes(tiling.window_rows * tiling.window_columns) : 0;
    const int bytes = Memory::kBytes + DotsBytes(task, tiling.taps) + window;
    return LaunchKernel(ImageGradientKernel<S, Columns, Window, Dots, kPixels, kThreads>, tiling.blocks, kThreads,
                        SharedBytes(device, tuning, bytes), stream, task);
  }
};

// Launches the fastest of these kinds of blocks, which are in the order of GpuTuning::tile. Two blocks are to share a
// multiprocessor if they can, so that one multiplies while the other adds.
template <int kPixels, typename... Blocks, typename S>
cudaError_t LaunchFastestBlocks(const GpuDevice& device, const GpuTuning& tuning, const Task<S>& task,
                                cudaStream_t stream) {
  using Launch = cudaError_t(const GpuDevice&, const GpuTuning&, Task<S>, const GradientTiling&, cudaStream_t);
  const GradientTilingSearch<kPixels> search(task.shape, task.maps, device, task.has_window());
  GradientTiling best = {};
  Launch* launch = nullptr;
  const auto consider = [&](auto kind) {
    const GradientBlock block = kind.Describe(task);
    for (int blocks = tuning.blocks_per_multiprocessor == 1 ? 1 : kind.kMostBlocks; blocks > 0; --blocks) {
      const GradientTiling found = search.Best(block, blocks);
      if (found.blocks > 0 && (launch == nullptr || found.cycles < best.cycles)) {
        best = found;
        launch = kind.Launch;
      }
    }
  };
  const int asked_for = tuning.tile <= int{sizeof...(Blocks)} ? tuning.tile : 0;
  int number = 0;
  ((++number, asked_for == 0 || asked_for == number ? consider(Blocks()) : void()), ...);
  // The device may have too little memory for what is asked for.
  if (launch == nullptr) (consider(Blocks()), ...);
  return launch == nullptr ? cudaErrorInvalidConfiguration : launch(device, tuning, task, best, stream);
}

// Wide blocks read dy less often, but their windows take more memory. The depth of a step is 128 bytes of outputs:
// whole lines of the caches.
template <TileMath kMath, typename S>
cudaError_t LaunchVectors(const GpuDevice& device, const GpuTuning& tuning, const Task<S>& task, cudaStream_t stream) {
  constexpr int kPixels = 64;
  constexpr int kDepth = 128 / sizeof(S);
  constexpr int kVector = 16 / sizeof(S);
  using Large = ImageGradientBlocks<S, kMath, kPixels, 128, kDepth, 256, kVector>;
  using Medium = ImageGradientBlocks<S, kMath, kPixels, 64, kDepth, 128, kVector>;
  using Small = ImageGradientBlocks<S, kMath, kPixels, 32, kDepth, 128, kVector>;
  return LaunchFastestBlocks<kPixels, Large, Medium, Small>(device, tuning, task, stream);
}

template <typename S>
cudaError_t SpreadColumns(const GpuDevice& device, const Task<S>& task, const GpuOptions& options,
                          cudaStream_t stream) {
  const GpuTuning& tuning = options.tuning;
  if constexpr (sizeof(S) <= 4) {
    const bool has_matrix_units = device.capability >= 80 || std::is_same_v<S, Half>;
    if (CanReadVectors<S>(task.shape, {task.inputs.x, task.inputs.kernel, task.dy, task.dx})) {
      if constexpr (std::is_same_v<S, float>) {
        if (!has_matrix_units) return LaunchVectors<TileMath::kScalar>(device, tuning, task, stream);
        return options.allow_tf32 ? LaunchVectors<TileMath::kTf32>(device, tuning, task, stream)
                                  : LaunchVectors<TileMath::kTf32x3>(device, tuning, task, stream);
      } else if constexpr (std::is_same_v<S, Half>) {
        return LaunchVectors<TileMath::kHalf>(device, tuning, task, stream);
      } else if (has_matrix_units) {
        return LaunchVectors<TileMath::kBFloat16>(device, tuning, task, stream);
      }
    }
  }
  constexpr int kPixels = 64;
  using General = ImageGradientBlocks<S, TileMath::kScalar, kPixels, 32, 16, 128, 1>;
  return LaunchFastestBlocks<kPixels, General>(device, tuning, task, stream);
}

// Where the parts of the workspace begin.
template <typename S>
struct Workspace {
  int64_t columns = 0;  // after the sums, which are elsewhere if the tensor itself is wide enough for them
  int64_t corners = 0, end = 0;
  int64_t band_pixels = 0;

  Workspace(const DeformConv2DShape& shape, const GpuOptions& options) {
    using T = Compute<S>;
    if (!std::is_same_v<S, T>) columns = RoundUp(InputSize(shape) * sizeof(T));
    corners = end = columns;
    if (!options.deterministic) return;
    const OrderedBand<T> band(shape);
    band_pixels = band.pixels;
    corners = RoundUp(columns + band.columns_bytes);
    end = corners + band.corners_bytes;
  }

  static int64_t InputSize(const DeformConv2DShape& shape) {
    return shape.batch * shape.in_height * shape.in_width * shape.in_channels;
  }
  static int64_t RoundUp(int64_t bytes) { return CeilDiv(bytes, 256) * 256; }
};

}  // namespace

template <typename S>
int64_t ImageGradientGpuWorkspace(const DeformConv2DShape& shape, const GpuOptions& options) {
  return Workspace<S>(shape, options).end;
}

template <typename S>
cudaError_t ImageGradientGpu(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy,
                             const DeformConv2DGradients<S>& gradients, void* workspace, const GpuOptions& options,
                             cudaStream_t stream) {
  using T = Compute<S>;
  if (gradients.x == nullptr && gradients.offset == nullptr) return cudaSuccess;
  if (!FitsColumnKernels<S>(shape)) return cudaErrorInvalidValue;
  GpuDevice device;
  cudaError_t status = DescribeGpuFor(options, &device);
  const PixelMaps maps = {shape.batch, shape.out_height, shape.out_width};
  Task<S> task = {shape, inputs, dy, gradients, nullptr, {}, 0, maps, PixelStrips::ByRow(shape), {}};
  if (gradients.x == nullptr) {
    if (status == cudaSuccess) status = SpreadColumns(device, task, options, stream);
    return status;
  }

  const Workspace<S> parts(shape, options);
  const auto part = [workspace](int64_t offset) { return static_cast<unsigned char*>(workspace) + offset; };
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
    const int64_t pixels = shape.batch * shape.out_pixels();
    for (int64_t first = 0; first < pixels && status == cudaSuccess; first += parts.band_pixels) {
      // Of the pixels of all images in a row.
      task.first_pixel = first;
      task.maps = {1, 1, std::min(parts.band_pixels, pixels - first)};
      status = SpreadColumns(device, task, options, stream);
      if (status != cudaSuccess) break;
      status =
          AddColumnsInOrder(shape, inputs.offset, inputs.mask, task.ordered, first, task.maps.width, task.dx, stream);
    }
  }
  if constexpr (!std::is_same_v<S, T>) {
    if (status == cudaSuccess) status = NarrowSums(task.dx, size, gradients.x, stream);
  }
  return status;
}

#define DCNV2_INSTANTIATE(S)                                                                                 \
  template int64_t ImageGradientGpuWorkspace<S>(const DeformConv2DShape&, const GpuOptions&);                \
  template cudaError_t ImageGradientGpu<S>(const DeformConv2DShape&, const DeformConv2DInputs<S>&, const S*, \
                                           const DeformConv2DGradients<S>&, void*, const GpuOptions&, cudaStream_t)
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
