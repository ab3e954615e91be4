// The kernel gradient: dkernel[tap, c, o] = sum over pixels of column[pixel, tap, c] * dy[pixel, o].
//
// A block owns a tile of (channels of one tap and deformable group) x outputs, and a slice of the pixels. There are few
// tiles and many pixels, so several slices are needed to occupy a device; their sums are left in the workspace and
// added up in the order of the slices by a second kernel. Nothing is atomic: results are repeatable.
#include "cc/lib/gpu/conv/deform_conv2d_backward.h"
#include "cc/lib/gpu/conv/kernel_gradient_source.cuh"

namespace dcnv2 {
namespace {

template <typename S, typename Columns, int kThreads, int kBlocksPerMultiprocessor, int kVector>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    KernelGradientKernel(const __grid_constant__ KernelGradientArguments<S> arguments) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  using T = Compute<S>;
  using Product = typename Columns::Product;
  const DeformConv2DShape& shape = arguments.shape;
  const ColumnSizes& sizes = arguments.sizes;
  // Blocks that run at the same time read the same pixels.
  int index = blockIdx.x;
  const auto take = [&index](int count) {
    const int taken = index % count;
    index /= count;
    return taken;
  };
  const int output_tile = take(arguments.output_tiles);
  const int channel_tile = take(arguments.channel_tiles);
  const int deformable_group = take(static_cast<int>(shape.deformable_groups));
  const int tap = take(sizes.taps);
  const int slice = index;
  const KernelTile tile = LocateKernelTile(sizes, tap, deformable_group, channel_tile, output_tile, Columns::kChannels,
                                           Columns::kTileColumns);
  // Not all tiles of channels belong to equally many groups. The whole block ends here.
  if (tile.first_output >= tile.end_output) return;

  const int64_t first_pixel = int64_t{slice} * arguments.slice_pixels;
  const int64_t pixels = min(int64_t{arguments.slice_pixels}, shape.batch * shape.out_pixels() - first_pixel);
  Product product;
  product.Clear();
  Columns::Accumulate(KernelGradientSource<S, Columns>(arguments, tile, first_pixel, static_cast<int>(pixels)),
                      shared_memory, &product);

  T* partial_sums = arguments.partial_sums;
  if (partial_sums != nullptr) partial_sums += int64_t{slice} * sizes.taps * sizes.group_channels * sizes.outputs;
  // Where the sum of a row and column belongs in the kernel; false where nowhere.
  const auto locate = [&](int row, int column, int64_t* to) {
    const int output = tile.first_output + column;
    const int channel =
        tile.first_channel + row - output / sizes.group_outputs * sizes.group_channels;  // in the output's group
    *to = int64_t{tap * sizes.group_channels + channel} * sizes.outputs + output;
    return tile.first_channel + row < tile.end_channel && output < tile.end_output && channel >= 0 &&
           channel < sizes.group_channels;
  };
  product.ForEach([&](int row, int column, const auto& sums) {
    int64_t to;
    if constexpr (kVector > 1) {
      if (!locate(row, column, &to)) return;
      if (partial_sums != nullptr) {
        Vector<T, Product::kRun>::Store(sums, partial_sums + to);
      } else {
        Vector<S, Product::kRun>::Store(sums, arguments.dkernel + to);
      }
    } else {
#pragma unroll
      for (int i = 0; i < Product::kRun; ++i) {
        if (!locate(row, column + i, &to)) continue;
        if (partial_sums != nullptr) {
          partial_sums[to] = sums[i];
        } else {
          arguments.dkernel[to] = Narrow<S>(sums[i]);
        }
      }
    }
  });
}

constexpr int kAddThreads = 256;

template <typename S>
__global__ void __launch_bounds__(kAddThreads)
    AddSlicesKernel(const Compute<S>* partial_sums, int slices, int64_t size, S* dkernel) {
  const int64_t i = int64_t{blockIdx.x} * kAddThreads + threadIdx.x;
  if (i >= size) return;
  Compute<S> sum = 0;
#pragma unroll 4
  for (int slice = 0; slice < slices; ++slice) sum += partial_sums[slice * size + i];
  dkernel[i] = Narrow<S>(sum);
}

int64_t KernelSize(const DeformConv2DShape& shape) {
  return shape.taps() * shape.group_in_channels() * shape.out_channels;
}

// As many as occupy a large device several times over, as far as they find room in 64 MB.
template <typename S>
int64_t MostSlices(const DeformConv2DShape& shape) {
  constexpr int64_t kBlocks = 512, kTile = 128, kPixels = 128, kBytes = int64_t{64} << 20;
  const int64_t tiles = shape.taps() * CeilDiv(shape.in_channels, kTile) * CeilDiv(shape.group_out_channels(), kTile);
  const int64_t wanted = std::min(CeilDiv(kBlocks, tiles), CeilDiv(shape.batch * shape.out_pixels(), kPixels));
  const int64_t room = kBytes / (KernelSize(shape) * static_cast<int64_t>(sizeof(Compute<S>)));
  return std::max<int64_t>(1, std::min(wanted, room));
}

template <typename S, TileMath kMath, int kRows, int kTileColumns, int kDepth, int kBlocks, int kVector, int kRounds,
          int kPlannedPixels>
struct KernelGradientTile {
  static constexpr int kThreads = 256;
  using T = Compute<S>;
  using Columns = ColumnProduct<S, kMath, kRows, kTileColumns, kDepth, kThreads, TileLayout::kColumnMajor, kVector,
                                kRounds, kPlannedPixels>;
  // To which costs refer: 32 bytes of pixels on matrix units.
  static constexpr int kStepPixels = kMath == TileMath::kScalar ? 1 : 32 / sizeof(S);

  static bool Fits(const GpuDevice& device) { return Columns::kSharedBytes <= device.shared_memory_per_block; }

  // The division into tiles and slices, and how many cycles it takes.
  struct Division {
    int64_t channel_tiles, output_tiles, slices, slice_pixels, time;
  };
  static Division Divide(const GpuDevice& device, const DeformConv2DShape& shape, const TileCost& cost) {
    const int64_t channel_tiles = CeilDiv(shape.deformable_group_channels(), kRows);
    int64_t outputs = 0;
    for (int dg = 0; dg < shape.deformable_groups; ++dg) {
      for (int i = 0; i < channel_tiles; ++i) {
        constexpr int kAll = std::numeric_limits<int>::max() / 2;
        const KernelTile tile = LocateKernelTile(ColumnSizes(shape), 0, dg, i, 0, kRows, kAll);
        outputs = std::max<int64_t>(outputs, tile.end_output - tile.first_output);
      }
    }
    Division best = {channel_tiles, CeilDiv(outputs, kTileColumns), 0, 0, std::numeric_limits<int64_t>::max()};
    const int64_t tiles = shape.taps() * shape.deformable_groups * channel_tiles * best.output_tiles;
    const int64_t pixels = shape.batch * shape.out_pixels();
    for (int64_t wanted = 1; wanted <= MostSlices<S>(shape); ++wanted) {
      const int64_t slice_pixels = CeilDiv(CeilDiv(pixels, wanted), kDepth) * kDepth;
      const int64_t slices = CeilDiv(pixels, slice_pixels);
      // Writing and reading partial sums; large devices move about 2048 bytes per cycle.
      const int64_t adding = slices == 1 ? 0 : slices * KernelSize(shape) * sizeof(T) / 1024;
      const int64_t time = TilesTime(device, tiles * slices, cost) * (slice_pixels / kStepPixels) + adding;
      if (time < best.time) best = {channel_tiles, best.output_tiles, slices, slice_pixels, time};
    }
    return best;
  }
  static int64_t Time(const GpuDevice& device, const KernelGradientArguments<S>& arguments, const TileCost& cost) {
    return Divide(device, arguments.shape, cost).time;
  }

  static cudaError_t Launch(const GpuDevice& device, const GpuTuning& tuning, const TileCost& cost,
                            KernelGradientArguments<S> arguments, cudaStream_t stream) {
    const DeformConv2DShape& shape = arguments.shape;
    const Division division = Divide(device, shape, cost);
    arguments.channel_tiles = static_cast<int>(division.channel_tiles);
    arguments.output_tiles = static_cast<int>(division.output_tiles);
    if (division.slice_pixels > std::numeric_limits<int32_t>::max() - kPlannedPixels) return cudaErrorInvalidValue;
    arguments.slice_pixels = static_cast<int>(division.slice_pixels);
    if (division.slices == 1) arguments.partial_sums = nullptr;
    const int64_t blocks =
        division.slices * shape.taps() * shape.deformable_groups * division.channel_tiles * division.output_tiles;
    const cudaError_t error =
        LaunchKernel(KernelGradientKernel<S, Columns, kThreads, kBlocks, kVector>, blocks, kThreads,
                     SharedBytes(device, tuning, Columns::kSharedBytes), stream, arguments);
    if (error != cudaSuccess || division.slices == 1) return error;
    const int64_t size = KernelSize(shape);
    return LaunchKernel<const T*, int, int64_t, S*>(AddSlicesKernel<S>, CeilDiv(size, kAddThreads), kAddThreads, 0,
                                                    stream, arguments.partial_sums, static_cast<int>(division.slices),
                                                    size, arguments.dkernel);
  }
};

// Costs are cycles, as of the forward pass. All threads of a large tile plan, 256 pixels at once. Where two blocks are
// to share a multiprocessor half of them do, so that both still fit on devices of compute capability 8.0.
template <typename S, TileMath kMath>
cudaError_t LaunchOnMatrixUnits(const GpuDevice& device, const GpuTuning& tuning,
                                const KernelGradientArguments<S>& arguments, cudaStream_t stream) {
  constexpr int kDepth = 128 / sizeof(S);
  constexpr int kVector = 16 / sizeof(S);
  using Large = KernelGradientTile<S, kMath, 128, 256, kDepth, 1, kVector, 2, 256>;
  using Medium = KernelGradientTile<S, kMath, 128, 128, kDepth, 2, kVector, 4, 128>;
  using Small = KernelGradientTile<S, kMath, 64, 128, kDepth, 2, kVector, 2, 128>;
  return LaunchFastest(device, tuning, arguments, stream, Candidate<Large>{{500, 500}}, Candidate<Medium>{{384, 480}},
                       Candidate<Small>{{240, 300}});
}

template <typename S>
cudaError_t LaunchSplit(const GpuDevice& device, const GpuTuning& tuning, const KernelGradientArguments<S>& arguments,
                        cudaStream_t stream) {
  using Large = KernelGradientTile<S, TileMath::kTf32x3, 128, 128, 32, 1, 4, 2, 256>;
  using Small = KernelGradientTile<S, TileMath::kTf32x3, 64, 128, 16, 2, 4, 1, 128>;
  return LaunchFastest(device, tuning, arguments, stream, Candidate<Large>{{620, 640}}, Candidate<Small>{{340, 420}});
}

template <typename S>
cudaError_t LaunchScalar(const GpuDevice& device, const GpuTuning& tuning, const KernelGradientArguments<S>& arguments,
                         cudaStream_t stream) {
  using Large = KernelGradientTile<S, TileMath::kScalar, 128, 128, 16, 1, 4, 2, 256>;
  using Small = KernelGradientTile<S, TileMath::kScalar, 64, 64, 16, 3, 4, 1, 64>;
  return LaunchFastest(device, tuning, arguments, stream, Candidate<Large>{{128, 160}}, Candidate<Small>{{48, 80}});
}

template <typename S>
cudaError_t LaunchKernelGradient(const KernelGradientArguments<S>& arguments, const GpuOptions& options,
                                 cudaStream_t stream) {
  GpuDevice device;
  if (const cudaError_t error = DescribeGpuFor(options, &device)) return error;
  const GpuTuning& tuning = options.tuning;
  const bool has_matrix_units = device.capability >= 80;  // for more than float16
  if constexpr (sizeof(S) <= 4) {
    if (CanReadVectors<S>(arguments.shape, {arguments.inputs.x, arguments.dy, arguments.dkernel})) {
      if constexpr (std::is_same_v<S, float>) {
        if (!has_matrix_units) return LaunchScalar<S>(device, tuning, arguments, stream);
        return options.allow_tf32 ? LaunchOnMatrixUnits<S, TileMath::kTf32>(device, tuning, arguments, stream)
                                  : LaunchSplit<S>(device, tuning, arguments, stream);
      } else if constexpr (std::is_same_v<S, Half>) {
        return LaunchOnMatrixUnits<S, TileMath::kHalf>(device, tuning, arguments, stream);
      } else if (has_matrix_units) {
        return LaunchOnMatrixUnits<S, TileMath::kBFloat16>(device, tuning, arguments, stream);
      }
    }
  }
  using General = KernelGradientTile<S, TileMath::kScalar, 64, 64, 16, 2, 1, 1, 128>;
  return LaunchFastest(device, tuning, arguments, stream, Candidate<General>{{64, 128}});
}

}  // namespace

template <typename S>
int64_t KernelGradientGpuWorkspace(const DeformConv2DShape& shape) {
  if (shape.has_no_gradient()) return 0;
  const int64_t slices = MostSlices<S>(shape);
  return slices == 1 ? 0 : slices * KernelSize(shape) * static_cast<int64_t>(sizeof(Compute<S>));
}

template <typename S>
cudaError_t KernelGradientGpu(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy,
                              S* dkernel, void* workspace, const GpuOptions& options, cudaStream_t stream) {
  if (shape.has_no_gradient()) {
    return cudaMemsetAsync(dkernel, 0, KernelSize(shape) * sizeof(S), stream);
  }
  if (!FitsColumnKernels<S>(shape)) return cudaErrorInvalidValue;
  return LaunchKernelGradient<S>({shape, ColumnSizes(shape), inputs, dy, dkernel, static_cast<Compute<S>*>(workspace),
                                  PixelStrips::ForGathering(shape),
                                  /*slice_pixels=*/0, 0, 0},
                                 options, stream);
}

#define DCNV2_INSTANTIATE(S)                                                                                      \
  template int64_t KernelGradientGpuWorkspace<S>(const DeformConv2DShape&);                                       \
  template cudaError_t KernelGradientGpu<S>(const DeformConv2DShape&, const DeformConv2DInputs<S>&, const S*, S*, \
                                            void*, const GpuOptions&, cudaStream_t)
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
