// Backward pass: warps take bins, lanes take channels. A warp has all channels of a bin, so that the gradients of
// offset and mask need no one else; those of features are added atomically, or in order by the other file.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "cc/lib/geometry.h"
#include "cc/lib/gpu/common/launch.h"
#include "cc/lib/gpu/common/narrow.cuh"
#include "cc/lib/gpu/common/ptx.cuh"
#include "cc/lib/gpu/common/vector.cuh"
#include "cc/lib/gpu/roi/deform_roi_pool.h"
#include "cc/lib/gpu/roi/deform_roi_pool_backward.h"
#include "cc/lib/gpu/roi/roi_bins.cuh"
#include "cc/lib/gpu/roi/roi_problem.h"

namespace dcnv2 {
namespace {

constexpr int kWarps = 4;    // of a block; they have nothing to do with each other
constexpr int kVectors = 2;  // of a lane

template <typename S>
constexpr bool kIsNarrow = !std::is_same_v<S, Compute<S>>;

// What a kernel computes.
enum class Wanted { kFeatures, kSampling, kAll };

// A lane's part of the sum over channels of dy times the bin's value, and of dy times the value's derivatives with
// respect to the bin's displacement in feature pixels.
template <typename T>
struct SamplingSums {
  T value, row_slope, column_slope;
};

// The channels of a lane, in kVectors vectors that lie 32 vectors apart.
template <typename S, int kSize, Wanted kWanted>
class ChannelGradients {
 public:
  using T = Compute<S>;
  static constexpr int kChannels = 32 * kSize * kVectors;  // of a warp

  // `features` and `sums` are of the RoI's map; dy is scaled by `scale` before it is added to sums.
  __device__ __forceinline__ ChannelGradients(const S* dy, T scale, int first_channel, int channels, const S* features,
                                              T* sums)
      : channels_(channels), scale_(scale) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int channel = first_channel + (32 * v + threadIdx.x % 32) * kSize;
      has_channels_[v] = channel < channels;
      // Lanes without channels read others', so that loads need no condition.
      const int safe_channel = has_channels_[v] ? channel : 0;
      from_[v] = features + safe_channel;
      to_[v] = sums + safe_channel;
      const auto stored = Vector<S, kSize>::Load(dy + safe_channel);
#pragma unroll
      for (int i = 0; i < kSize; ++i) dy_[v][i] = stored[i];
    }
  }

  __device__ __forceinline__ void Add(const SlopedPixelTerm<T>* terms, int count, SamplingSums<T>* sampling) {
    for (int i = 0; i + 2 <= count; i += 2) AddPixels<2>(terms + i, sampling);
    if (count & 1) AddPixels<1>(terms + count - 1, sampling);
  }

 private:
  template <int kPixels>
  __device__ __forceinline__ void AddPixels(const SlopedPixelTerm<T>* terms, SamplingSums<T>* sampling) {
    SlopedPixelTerm<T> term[kPixels];
#pragma unroll
    for (int p = 0; p < kPixels; ++p) term[p] = terms[p];
    if constexpr (kWanted != Wanted::kFeatures) {
      Vector<S, kSize> x[kPixels][kVectors];
#pragma unroll
      for (int p = 0; p < kPixels; ++p) {
#pragma unroll
        for (int v = 0; v < kVectors; ++v) {
          x[p][v] = Vector<S, kSize>::Load(AtPixel(from_[v], term[p].pixel, channels_));
        }
      }
#pragma unroll
      for (int p = 0; p < kPixels; ++p) {
        const T dot = Dot(x[p]);
        sampling->value += term[p].weight * dot;
        sampling->row_slope += term[p].row_slope * dot;
        sampling->column_slope += term[p].column_slope * dot;
      }
    }
    if constexpr (kWanted != Wanted::kSampling) {
#pragma unroll
      for (int p = 0; p < kPixels; ++p) {
        const T weight = scale_ * term[p].weight;
#pragma unroll
        for (int v = 0; v < kVectors; ++v) {
          if (has_channels_[v]) AddAtomically(AtPixel(to_[v], term[p].pixel, channels_), weight, dy_[v]);
        }
      }
    }
  }

  __device__ __forceinline__ T Dot(const Vector<S, kSize> (&x)[kVectors]) const {
    T total = 0;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      T dot = 0;
#pragma unroll
      for (int i = 0; i < kSize; ++i) dot += dy_[v][i] * x[v][i];
      total += has_channels_[v] ? dot : T(0);
    }
    return total;
  }

  static __device__ __forceinline__ void AddAtomically(T* to, T weight, const T (&values)[kSize]) {
    if constexpr (std::is_same_v<T, float> && kSize == 4) {
      ptx::AtomicAdd4(to, make_float4(weight * values[0], weight * values[1], weight * values[2], weight * values[3]));
    } else {
#pragma unroll
      for (int i = 0; i < kSize; ++i) atomicAdd(to + i, weight * values[i]);
    }
  }

  const int channels_;
  const T scale_;
  const S* from_[kVectors];
  T* to_[kVectors];
  bool has_channels_[kVectors];
  T dy_[kVectors][kSize];
};

template <typename T>
__device__ __forceinline__ T SumOfLanes(T value) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kAllLanes, value, lanes);
  return value;
}

template <typename S, int kSize, Wanted kWanted>
__global__ void __launch_bounds__(32 * kWarps, 5)
    BinGradients(const GpuRoiProblem<S> problem, const RoiLaunch launch, const S* __restrict__ dy,
                 Compute<S>* __restrict__ doffset, Compute<S>* __restrict__ dmask) {
  using T = Compute<S>;
  using Channels = ChannelGradients<S, kSize, kWanted>;
  using Bins = WarpBins<S, SlopedPixelTerm<T>>;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, task = blockIdx.x * kWarps + warp;
  const int64_t roi = launch.begin + task / launch.warps_per_roi;
  if (roi >= launch.end) return;
  Bins bins(problem, shared_memory + warp * Bins::SharedBytes(problem.entry_bits));
  bins.MoveToRoi(roi);
  const S* features = nullptr;
  T* sums = nullptr;
  if (problem.IsKnown(roi)) {
    const auto& level = problem.levels[problem.level_of_roi[roi]];
    features = level.features + problem.MapOffset(roi);
    sums = level.sums + problem.MapOffset(roi);
  }
  const int first = task % launch.warps_per_roi * launch.bins_per_warp;
  for (int bin = first; bin < min(first + launch.bins_per_warp, problem.bins); ++bin) {
    bins.MoveToBin(bin);
    const int64_t target = roi * problem.bins + bin;
    const T modulation = problem.mask == nullptr ? T(1) : problem.mask[target];
    SamplingSums<T> sampling = {};
    if (!bins.IsNan()) {
      for (int channel = 0; channel < problem.channels; channel += Channels::kChannels) {
        Channels channels(dy + target * problem.channels, modulation, channel, problem.channels, features, sums);
        bins.ForEachList([&](const SlopedPixelTerm<T>* terms, int count) { channels.Add(terms, count, &sampling); });
      }
    }
    if constexpr (kWanted != Wanted::kFeatures) {
      const T value = SumOfLanes(sampling.value);
      const T row_slope = SumOfLanes(sampling.row_slope), column_slope = SumOfLanes(sampling.column_slope);
      const T slope = modulation * static_cast<T>(problem.config.gamma) * bins.roi_size() *
                      (bins.is_column() ? column_slope : row_slope);
      // A lane of each axis writes.
      if (lane % Bins::kSlots != 0) continue;
      if (doffset != nullptr) doffset[2 * target + bins.is_column()] = bins.IsNan() ? static_cast<T>(NAN) : slope;
      if (dmask != nullptr && !bins.is_column()) dmask[target] = bins.IsNan() ? static_cast<T>(NAN) : value;
    }
  }
}

template <typename S, int kSize, Wanted kWanted>
cudaError_t LaunchBinGradients(const GpuRoiProblem<S>& problem, const S* dy, const DeformRoiPoolGradients<S>& gradients,
                               cudaStream_t stream) {
  using Bins = WarpBins<S, SlopedPixelTerm<Compute<S>>>;
  return ForEachRoiLaunch(problem, Bins::kSlots, [&](const RoiLaunch& launch) {
    return LaunchKernel(BinGradients<S, kSize, kWanted>, CeilDiv(launch.warps(), kWarps), 32 * kWarps,
                        kWarps * Bins::SharedBytes(problem.entry_bits), stream, problem, launch, dy, gradients.offset,
                        gradients.mask);
  });
}

template <typename S, int kSize>
cudaError_t AddBinGradients(const GpuRoiProblem<S>& problem, const S* dy, const DeformRoiPoolGradients<S>& gradients,
                            bool deterministic, cudaStream_t stream) {
  const bool has_sampling = gradients.offset != nullptr || gradients.mask != nullptr;
  if (!has_sampling && deterministic) return cudaSuccess;
  if (deterministic) return LaunchBinGradients<S, kSize, Wanted::kSampling>(problem, dy, gradients, stream);
  return has_sampling ? LaunchBinGradients<S, kSize, Wanted::kAll>(problem, dy, gradients, stream)
                      : LaunchBinGradients<S, kSize, Wanted::kFeatures>(problem, dy, gradients, stream);
}

int64_t LevelSize(const DeformRoiPoolShape& shape, size_t level) {
  return shape.batch * shape.levels[level].height * shape.levels[level].width * shape.channels;
}

// Where a level's float32 sums start in the workspace, in elements: one after the other, aligned.
int64_t SumsOffset(const DeformRoiPoolShape& shape, size_t level) {
  int64_t offset = 0;
  for (size_t i = 0; i < level; ++i) offset += CeilDiv(LevelSize(shape, i), 64) * 64;
  return offset;
}

}  // namespace

template <typename S>
int64_t DeformRoiPoolBackwardGpuWorkspace(const DeformRoiPoolShape& shape, const GpuOptions&) {
  return kIsNarrow<S> ? SumsOffset(shape, shape.levels.size()) * sizeof(float) : 0;
}

template <typename S>
cudaError_t DeformRoiPoolBackwardGpu(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs, const S* dy,
                                     const DeformRoiPoolGradients<S>& gradients, void* workspace,
                                     const GpuOptions& options, cudaStream_t stream) {
  using T = Compute<S>;
  constexpr int kSize = kRoiGradientVector<S>;
  GpuRoiProblem<S> problem;
  if (!MakeGpuRoiProblem(shape, inputs, &problem)) return cudaErrorInvalidValue;
  bool vectors = TakesVectors<kSize>(problem) && IsAligned(dy, kSize * sizeof(S));
  for (size_t level = 0; level < shape.levels.size(); ++level) {
    if constexpr (kIsNarrow<S>) {
      problem.levels[level].sums = static_cast<T*>(workspace) + SumsOffset(shape, level);
    } else {
      problem.levels[level].sums = gradients.features[level];
    }
    vectors &= IsAligned(problem.levels[level].sums, kSize * sizeof(T));
    const size_t bytes = LevelSize(shape, level) * sizeof(T);
    const cudaError_t status = bytes == 0 ? cudaSuccess : cudaMemsetAsync(problem.levels[level].sums, 0, bytes, stream);
    if (status != cudaSuccess) return status;
  }
  cudaError_t status = cudaSuccess;
  if (shape.rois > 0 && problem.bins > 0) {
    status = vectors ? AddBinGradients<S, kSize>(problem, dy, gradients, options.deterministic, stream)
                     : AddBinGradients<S, 1>(problem, dy, gradients, options.deterministic, stream);
    if (status == cudaSuccess && options.deterministic) {
      status = OrderedRoiFeatureGradientGpu(problem, dy, vectors, stream);
    }
  }
  if constexpr (kIsNarrow<S>) {
    for (size_t level = 0; level < shape.levels.size() && status == cudaSuccess; ++level) {
      status = NarrowSums(problem.levels[level].sums, LevelSize(shape, level), gradients.features[level], stream);
    }
  }
  return status;
}

#define DCNV2_INSTANTIATE(S)                                                                                           \
  template int64_t DeformRoiPoolBackwardGpuWorkspace<S>(const DeformRoiPoolShape&, const GpuOptions&);                 \
  template cudaError_t DeformRoiPoolBackwardGpu<S>(const DeformRoiPoolShape&, const DeformRoiPoolInputs<S>&, const S*, \
                                                   const DeformRoiPoolGradients<S>&, void*, const GpuOptions&,         \
                                                   cudaStream_t)
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
