// Forward: an implicit matrix product, y[pixel, o] = sum over (tap, channel) of column[pixel, tap, channel] * kernel.
//
// A block owns a tile of pixels and outputs. Every output is one sum in a fixed order, so results are repeatable.
// A group with more outputs than a tile is wide has tiles of its own; smaller groups share a tile, whose kernel then is
// block diagonal: where an output does not belong to a channel's group, it is zero. (So in the outputs that share a
// tile, what is not finite spreads from one group's channels to another's outputs.)
#include <cstdlib>
#include <cstring>

#include "cc/lib/gpu/conv/column_product.cuh"
#include "cc/lib/gpu/conv/column_variants.h"
#include "cc/lib/gpu/conv/deform_conv2d.h"
#include "cc/lib/gpu/conv/deform_conv2d_forward_hopper.cuh"
#include "cc/lib/gpu/conv/pixel_strips.cuh"

namespace dcnv2 {
namespace {

template <typename S>
struct ForwardArguments {
  DeformConv2DShape shape;
  ColumnSizes sizes;
  DeformConv2DInputs<S> inputs;
  S* y;
  void* workspace;
  PixelStrips strips;
  int slab_steps;
  // Either one group, or part of it, per tile or several groups: one of these two is 1.
  int tiles_per_group, groups_per_tile;
  int output_tiles;
};

// Ranges of channels and outputs, among all of them.
struct OutputTile {
  int first_output, end_output;
  int first_channel, end_channel;
};

template <typename S>
__device__ __forceinline__ OutputTile LocateOutputs(const ForwardArguments<S>& arguments, int tile, int columns) {
  const ColumnSizes& sizes = arguments.sizes;
  const int first_group = tile / arguments.tiles_per_group * arguments.groups_per_tile;
  const int end_group = min(first_group + arguments.groups_per_tile, static_cast<int>(arguments.shape.groups));
  const int first_output = first_group * sizes.group_outputs + tile % arguments.tiles_per_group * columns;
  return {first_output, min(first_output + columns, end_group * sizes.group_outputs),
          first_group * sizes.group_channels, end_group * sizes.group_channels};
}

// The steps of one tile along the depth. All taps of a slab of channels, which is `slab_steps` steps deep, come before
// the next slab: what they sample overlaps, and as much as this of it stays in the first-level cache. So samples are
// planned once for every slab.
template <typename S, typename Columns>
class ForwardSource {
 public:
  using T = Compute<S>;
  struct Chunk {
    int slab, end_of_slab, deformable_group;  // `slab` is its first channel
    int tap;
    int channel, count;
    int plan_slot;
    bool is_new_sample;
  };

  __device__ __forceinline__ ForwardSource(const ForwardArguments<S>& arguments, const OutputTile& tile,
                                           const OutputPixel* pixels)
      : arguments_(arguments),
        sizes_(arguments.sizes),
        tile_(tile),
        copied_output_(tile.first_output + Columns::CopiedColumn()),
        first_channel_of_copied_group_(copied_output_ / sizes_.group_outputs * sizes_.group_channels),
        pixels_(pixels) {}

  __device__ __forceinline__ int channels() const { return sizes_.channels; }

  __device__ __forceinline__ Chunk First() const {
    Chunk chunk = {};
    chunk.deformable_group = tile_.first_channel / sizes_.deformable_group_channels;
    StartSlab(tile_.first_channel, &chunk);
    return chunk;
  }
  __device__ __forceinline__ void Advance(Chunk* chunk) const {
    chunk->channel += chunk->count;
    chunk->is_new_sample = chunk->channel == chunk->end_of_slab;
    static_assert(Columns::kPlanSlots == 2, "the other slot is the next");
    chunk->plan_slot ^= chunk->is_new_sample;
    if (chunk->is_new_sample) {
      chunk->channel = chunk->slab;
      if (++chunk->tap == sizes_.taps) {
        const int next_group = (chunk->deformable_group + 1) * sizes_.deformable_group_channels;
        if (chunk->end_of_slab == next_group) ++chunk->deformable_group;
        StartSlab(chunk->end_of_slab, chunk);
      }
    }
    chunk->count = min(Columns::kChannels, chunk->end_of_slab - chunk->channel);
  }
  __device__ __forceinline__ bool IsEnd(const Chunk& chunk) const { return chunk.slab == tile_.end_channel; }

  __device__ __forceinline__ bool NeedsPlan(const Chunk& chunk) const { return chunk.is_new_sample; }
  __device__ __forceinline__ SampleInput<T> ReadInput(const Chunk& chunk) const {
    return ReadSampleInput(arguments_.shape, pixels_[threadIdx.x], chunk.deformable_group, chunk.tap,
                           arguments_.inputs.offset, arguments_.inputs.mask);
  }
  __device__ __forceinline__ GatherPlan<S> MakePlan(const Chunk& chunk, const SampleInput<T>& input) const {
    const OutputPixel& pixel = pixels_[threadIdx.x];
    return {PlanSample(arguments_.shape, pixel, chunk.tap, input),
            arguments_.inputs.x + pixel.image_begin * arguments_.shape.in_channels, pixel.index};
  }

  __device__ __forceinline__ void CopyB(const Chunk& chunk, const GatherPlan<S>*,
                                        typename Columns::Element* tile) const {
    // In the output's group, to which a range of the rows belongs.
    const int first_channel = chunk.channel - first_channel_of_copied_group_;
    const int begin = copied_output_ < tile_.end_output ? max(-first_channel, 0) : chunk.count;
    const int end = min(sizes_.group_channels - first_channel, chunk.count);
    const int64_t first_row = chunk.tap * sizes_.group_channels + first_channel + Columns::CopiedRow();
    const S* next = arguments_.inputs.kernel + first_row * sizes_.outputs + copied_output_;
    Columns::CopyRows(
        [=](int row, const S** address) mutable {
          *address = next;
          next += int64_t{Columns::kCopiedRows} * sizes_.outputs;
          return row >= begin && row < end;
        },
        tile);
  }

 private:
  __device__ __forceinline__ void StartSlab(int slab, Chunk* chunk) const {
    const int end_of_group = (chunk->deformable_group + 1) * sizes_.deformable_group_channels;
    chunk->slab = chunk->channel = slab;
    chunk->end_of_slab = min(slab + arguments_.slab_steps * Columns::kChannels, min(end_of_group, tile_.end_channel));
    chunk->count = min(Columns::kChannels, chunk->end_of_slab - slab);
    chunk->tap = 0;
  }

  const ForwardArguments<S>& arguments_;
  const ColumnSizes& sizes_;
  const OutputTile tile_;
  const int copied_output_, first_channel_of_copied_group_;
  const OutputPixel* pixels_;
};

// Shared memory: the pixels of the tile, then what the product takes.
template <typename Columns>
constexpr int kSharedBytes = Columns::kPixels * sizeof(OutputPixel) + Columns::kSharedBytes;

template <typename S, typename Columns, int kThreads, int kBlocksPerMultiprocessor, int kVector>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    ForwardKernel(const __grid_constant__ ForwardArguments<S> arguments) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  using Product = typename Columns::Product;
  // Blocks that gather the same columns run at the same time and share them in the second-level cache.
  const OutputTile tile = LocateOutputs(arguments, blockIdx.x % arguments.output_tiles, Columns::kTileColumns);
  const int64_t first_pixel = int64_t{blockIdx.x / arguments.output_tiles} * Columns::kPixels;
  OutputPixel* pixels = reinterpret_cast<OutputPixel*>(shared_memory);
  if (threadIdx.x < Columns::kPixels) {
    pixels[threadIdx.x] = arguments.strips.Locate(arguments.shape, first_pixel + threadIdx.x);
  }

  Product product;
  product.Clear();
  Columns::Accumulate(ForwardSource<S, Columns>(arguments, tile, pixels),
                      shared_memory + Columns::kPixels * sizeof(OutputPixel), &product);

  product.ForEach([&](int row, int column, const auto& sums) {
    const int64_t pixel = pixels[row].index;
    const int output = tile.first_output + column;
    if (pixel < 0) return;
    S* to = arguments.y + pixel * arguments.shape.out_channels + output;
    if constexpr (kVector > 1) {
      if (output < tile.end_output) Vector<S, Product::kRun>::Store(sums, to);
    } else {
#pragma unroll
      for (int i = 0; i < Product::kRun; ++i) {
        if (output + i < tile.end_output) to[i] = Narrow<S>(sums[i]);
      }
    }
  });
}

template <typename S, TileMath kMath, int kRows, int kTileColumns, int kDepth, int kBlocks, int kVector, int kRounds>
struct ForwardTile {
  static constexpr int kThreads = 256;
  using Columns =
      ColumnProduct<S, kMath, kRows, kTileColumns, kDepth, kThreads, TileLayout::kRowMajor, kVector, kRounds, kRows>;

  static int64_t TilesPerGroup(const DeformConv2DShape& shape) {
    return CeilDiv(shape.group_out_channels(), kTileColumns);
  }
  static int64_t GroupsPerTile(const DeformConv2DShape& shape) {
    return std::max<int64_t>(1, kTileColumns / shape.group_out_channels());
  }
  static int64_t OutputTiles(const DeformConv2DShape& shape) {
    return CeilDiv(shape.groups, GroupsPerTile(shape)) * TilesPerGroup(shape);
  }
  static int64_t Tiles(const DeformConv2DShape& shape) {
    return CeilDiv(shape.batch * shape.out_pixels(), kRows) * OutputTiles(shape);
  }
  static bool Fits(const GpuDevice& device) { return kSharedBytes<Columns> <= device.shared_memory_per_block; }

  static int64_t Time(const GpuDevice& device, const ForwardArguments<S>& arguments, const TileCost& cost) {
    // Groups that share a tile lie one after the other along its depth.
    const int64_t depth = GroupsPerTile(arguments.shape) * arguments.shape.group_in_channels();
    return TilesTime(device, Tiles(arguments.shape), cost) * CeilDiv(depth, kDepth) * kDepth;
  }

  static cudaError_t Launch(const GpuDevice& device, const GpuTuning& tuning, const TileCost&,
                            ForwardArguments<S> arguments, cudaStream_t stream) {
    arguments.tiles_per_group = static_cast<int>(TilesPerGroup(arguments.shape));
    arguments.groups_per_tile = static_cast<int>(GroupsPerTile(arguments.shape));
    arguments.output_tiles = static_cast<int>(OutputTiles(arguments.shape));
    return LaunchKernel(ForwardKernel<S, Columns, kThreads, kBlocks, kVector>, Tiles(arguments.shape), kThreads,
                        SharedBytes(device, tuning, kSharedBytes<Columns>), stream, arguments);
  }
};

// Whether the kernels that compute capability 9.0 has for itself may be chosen. They have passed the tests on emulated
// devices and were measured in a program of their own; until the tests of this library have passed on such a device
// too, they are asked for by TF_DCNV2_HOPPER=1 in the environment, or by their number.
bool MayChooseHopper(const GpuTuning& tuning) {
  static const bool is_asked_for = [] {
    const char* value = std::getenv("TF_DCNV2_HOPPER");
    return value != nullptr && std::strcmp(value, "1") == 0;
  }();
  constexpr int kFirstHopperTile = 5;
  return is_asked_for || tuning.tile >= kFirstHopperTile;
}

// Tiles of the kernels that compute capability 9.0 has for itself, where there is a workspace for them. A group has
// tiles of its own.
template <typename S, typename Tiling>
struct HopperTile {
  static bool Fits(const GpuDevice& device) { return hopper::HasCode(device); }

  static int64_t Time(const GpuDevice& device, const ForwardArguments<S>& arguments, const TileCost& cost) {
    const DeformConv2DShape& shape = arguments.shape;
    if (arguments.workspace == nullptr || !hopper::Suits<Tiling>(device, shape)) return kCannotBeHad;
    // What packing the kernel and beginning cost, some 10000 cycles, in the unit of the candidates' times.
    constexpr int64_t kBeginning = 10000 * (32 / sizeof(S));
    const int64_t tiles = hopper::PixelTiles<Tiling>(shape) * hopper::PackedKernel<Tiling>(shape).output_tiles;
    return TilesTime(device, tiles * Tiling::kSplits, cost) * shape.group_in_channels() / Tiling::kSplits +
           kBeginning / shape.taps();
  }

  static cudaError_t Launch(const GpuDevice& device, const GpuTuning&, const TileCost&,
                            const ForwardArguments<S>& arguments, cudaStream_t stream) {
    return hopper::Launch<Tiling, S>(device,
                                     {arguments.shape, arguments.sizes, arguments.inputs, arguments.y, arguments.strips,
                                      nullptr, nullptr, 0, 0, 0, 0},
                                     arguments.workspace, stream);
  }
};

// Of 128 outputs where a layer has no more, of 256 otherwise, and these by two blocks each where there are too few for
// an H100's multiprocessors.
template <typename S, TileMath kMath>
struct HopperTilings {
  static constexpr bool kIsSplit = kMath == TileMath::kTf32x3;
  using Narrow = std::conditional_t<kIsSplit, hopper::Tiling<S, kMath, 2, 1, 128, 128, 8, 3, 1>,
                                    hopper::Tiling<S, kMath, 1, 2, 128, 128, 16, 4, 1>>;
  using Wide = std::conditional_t<kIsSplit, hopper::Tiling<S, kMath, 1, 1, 256, 256, 8, 2, 1>,
                                  hopper::Tiling<S, kMath, 1, 1, 256, 128, 16, 4, 1>>;
  using Halved = std::conditional_t<kIsSplit, hopper::Tiling<S, kMath, 1, 1, 256, 256, 8, 2, 2>,
                                    hopper::Tiling<S, kMath, 1, 1, 256, 128, 16, 4, 2>>;
};

template <typename S, TileMath kMath>
int64_t HopperWorkspace(const GpuDevice& device, const DeformConv2DShape& shape) {
  using Tilings = HopperTilings<S, kMath>;
  const auto bytes = [&](auto tiling) {
    using Tiling = decltype(tiling);
    return hopper::Suits<Tiling>(device, shape) ? hopper::PackedKernel<Tiling>(shape).bytes() : 0;
  };
  return std::max(
      {bytes(typename Tilings::Narrow()), bytes(typename Tilings::Wide()), bytes(typename Tilings::Halved())});
}

// The depth of a step on matrix units is 128 bytes of channels: whole lines of the caches. The wide tile gathers every
// column once where a layer has 256 outputs, and gives each multiprocessor of an H100 one of the tiles of two small
// maps. Times are cycles per step of 16 (of TF32: 8) along the depth, measured on an H100; those of its own kernels
// without what they take to begin.
template <typename S, TileMath kMath>
cudaError_t LaunchOnMatrixUnits(const GpuDevice& device, const GpuTuning& tuning, const ForwardArguments<S>& arguments,
                                cudaStream_t stream) {
  constexpr int kDepth = 128 / sizeof(S);
  constexpr int kVector = 16 / sizeof(S);
  using Medium = ForwardTile<S, kMath, 128, 128, kDepth, 2, kVector, 4>;
  using Small = ForwardTile<S, kMath, 64, 128, kDepth, 2, kVector, 1>;
  using Wide = ForwardTile<S, kMath, 64, 256, kDepth, 1, kVector, 1>;
  using HopperNarrow = HopperTile<S, typename HopperTilings<S, kMath>::Narrow>;
  using HopperWide = HopperTile<S, typename HopperTilings<S, kMath>::Wide>;
  using HopperHalved = HopperTile<S, typename HopperTilings<S, kMath>::Halved>;
  if constexpr (kMath == TileMath::kTf32) {
    using Large = ForwardTile<S, kMath, 64, 256, kDepth, 2, kVector, 1>;
    return LaunchFastest(device, tuning, arguments, stream, Candidate<Large>{{480, 650}},
                         Candidate<Medium>{{700, 1060}}, Candidate<Small>{{365, 460}}, Candidate<Wide>{{595, 625}},
                         Candidate<HopperNarrow>{{415, 415}}, Candidate<HopperWide>{{315, 315}},
                         Candidate<HopperHalved>{{345, 345}});
  } else {
    using Large = ForwardTile<S, kMath, 128, 256, kDepth, 1, kVector, 2>;
    return LaunchFastest(device, tuning, arguments, stream, Candidate<Large>{{1240, 1250}},
                         Candidate<Medium>{{835, 1050}}, Candidate<Small>{{450, 590}}, Candidate<Wide>{{745, 790}},
                         Candidate<HopperNarrow>{{530, 530}}, Candidate<HopperWide>{{400, 400}},
                         Candidate<HopperHalved>{{440, 440}});
  }
}

// Three products for one: matrix units are the bound, and what is split takes registers. Times as above.
template <typename S>
cudaError_t LaunchSplit(const GpuDevice& device, const GpuTuning& tuning, const ForwardArguments<S>& arguments,
                        cudaStream_t stream) {
  using Large = ForwardTile<S, TileMath::kTf32x3, 128, 128, 32, 1, 4, 1>;
  using Medium = ForwardTile<S, TileMath::kTf32x3, 64, 128, 32, 2, 4, 1>;
  using Small = ForwardTile<S, TileMath::kTf32x3, 64, 64, 32, 2, 4, 1>;
  using Wide = ForwardTile<S, TileMath::kTf32x3, 32, 256, 32, 2, 4, 1>;
  using HopperNarrow = HopperTile<S, typename HopperTilings<S, TileMath::kTf32x3>::Narrow>;
  using HopperWide = HopperTile<S, typename HopperTilings<S, TileMath::kTf32x3>::Wide>;
  using HopperHalved = HopperTile<S, typename HopperTilings<S, TileMath::kTf32x3>::Halved>;
  return LaunchFastest(device, tuning, arguments, stream, Candidate<Large>{{1205, 1205}}, Candidate<Medium>{{625, 745}},
                       Candidate<Small>{{415, 525}}, Candidate<Wide>{{580, 705}}, Candidate<HopperNarrow>{{700, 700}},
                       Candidate<HopperWide>{{535, 535}}, Candidate<HopperHalved>{{575, 575}});
}

// By ordinary arithmetic, which is the bound; times are in eighths of the large tile's.
template <typename S>
cudaError_t LaunchScalar(const GpuDevice& device, const GpuTuning& tuning, const ForwardArguments<S>& arguments,
                         cudaStream_t stream) {
  using Large = ForwardTile<S, TileMath::kScalar, 128, 128, 16, 1, 4, 2>;
  using Small = ForwardTile<S, TileMath::kScalar, 64, 64, 16, 3, 4, 1>;
  return LaunchFastest(device, tuning, arguments, stream, Candidate<Large>{{8, 10}}, Candidate<Small>{{3, 5}});
}

template <typename S>
cudaError_t LaunchForward(const ForwardArguments<S>& arguments, const GpuOptions& options, cudaStream_t stream) {
  GpuDevice device;
  if (const cudaError_t error = DescribeGpuFor(options, &device)) return error;
  const DeformConv2DInputs<S>& inputs = arguments.inputs;
  const GpuTuning& tuning = options.tuning;
  const bool has_matrix_units = device.capability >= 80;  // for more than float16
  if constexpr (sizeof(S) <= 4) {
    if (CanReadVectors<S>(arguments.shape, {inputs.x, inputs.kernel, arguments.y})) {
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
  using General = ForwardTile<S, TileMath::kScalar, 64, 64, 16, 2, 1, 1>;
  return LaunchFastest(device, tuning, arguments, stream, Candidate<General>{});
}

}  // namespace

template <typename S>
cudaError_t DeformConv2DForwardGpu(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, S* y,
                                   void* workspace, const GpuOptions& options, cudaStream_t stream) {
  if (shape.empty()) return cudaSuccess;
  if (shape.samples_nothing()) {
    return cudaMemsetAsync(y, 0, shape.batch * shape.out_pixels() * shape.out_channels * sizeof(S), stream);
  }
  if (!FitsColumnKernels<S>(shape)) return cudaErrorInvalidValue;
  const int slab_steps = options.tuning.slab_steps > 0 ? options.tuning.slab_steps : 2;
  void* const of_hopper = MayChooseHopper(options.tuning) ? workspace : nullptr;
  return LaunchForward<S>(
      {shape, ColumnSizes(shape), inputs, y, of_hopper, PixelStrips::ForGathering(shape), slab_steps, 0, 0, 0}, options,
      stream);
}

template <typename S>
int64_t DeformConv2DForwardGpuWorkspace(const DeformConv2DShape& shape, const GpuOptions& options) {
  GpuDevice device;
  if (!MayChooseHopper(options.tuning)) return 0;
  if (shape.empty() || shape.samples_nothing() || !FitsColumnKernels<S>(shape)) return 0;
  if (DescribeGpuFor(options, &device) != cudaSuccess) return 0;
  if constexpr (std::is_same_v<S, float>) {
    return options.allow_tf32 ? HopperWorkspace<S, TileMath::kTf32>(device, shape)
                              : HopperWorkspace<S, TileMath::kTf32x3>(device, shape);
  } else if constexpr (std::is_same_v<S, Half>) {
    return HopperWorkspace<S, TileMath::kHalf>(device, shape);
  } else if constexpr (std::is_same_v<S, BFloat16>) {
    return HopperWorkspace<S, TileMath::kBFloat16>(device, shape);
  } else {
    return 0;
  }
}

#define DCNV2_INSTANTIATE(S)                                                                                        \
  template int64_t DeformConv2DForwardGpuWorkspace<S>(const DeformConv2DShape&, const GpuOptions&);                 \
  template cudaError_t DeformConv2DForwardGpu<S>(const DeformConv2DShape&, const DeformConv2DInputs<S>&, S*, void*, \
                                                 const GpuOptions&, cudaStream_t)
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
