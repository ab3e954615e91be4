// Forward pass: warps take bins, lanes take channels.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "cc/lib/geometry.h"
#include "cc/lib/gpu/common/launch.h"
#include "cc/lib/gpu/common/vector.cuh"
#include "cc/lib/gpu/roi/deform_roi_pool.h"
#include "cc/lib/gpu/roi/roi_bins.cuh"
#include "cc/lib/gpu/roi/roi_problem.h"

namespace dcnv2 {
namespace {

constexpr int kWarps = 4;  // of a block; they have nothing to do with each other

// The channels of a lane, in kVectors vectors that lie 32 vectors apart, and their sums.
template <typename S, int kSize, int kVectors>
class ChannelSums {
 public:
  using T = Compute<S>;
  static constexpr int kChannels = 32 * kSize * kVectors;  // of a warp

  __device__ __forceinline__ ChannelSums(int first_channel, int channels) : channels_(channels) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      channel_[v] = first_channel + (32 * v + threadIdx.x % 32) * kSize;
#pragma unroll
      for (int i = 0; i < kSize; ++i) sum_[v][i] = T(0);
    }
  }

  __device__ __forceinline__ void Add(const S* map, const PixelTerm<T>* terms, int count) {
    // Lanes without channels read others', so that loads need no condition.
    const S* from[kVectors];
#pragma unroll
    for (int v = 0; v < kVectors; ++v) from[v] = map + (channel_[v] < channels_ ? channel_[v] : 0);
    int i = 0;
    for (; i + 4 <= count; i += 4) AddPixels<4>(from, terms + i);
    if (count & 2) AddPixels<2>(from, terms + i);
    if (count & 1) AddPixels<1>(from, terms + count - 1);
  }

  __device__ __forceinline__ void Store(T scale, S* y) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
#pragma unroll
      for (int i = 0; i < kSize; ++i) sum_[v][i] *= scale;
      if (channel_[v] < channels_) Vector<S, kSize>::Store(sum_[v], y + channel_[v]);
    }
  }

 private:
  // All loads are under way before the first one is needed.
  template <int kPixels>
  __device__ __forceinline__ void AddPixels(const S* const (&from)[kVectors], const PixelTerm<T>* terms) {
    Vector<S, kSize> x[kPixels][kVectors];
    T weight[kPixels];
#pragma unroll
    for (int p = 0; p < kPixels; ++p) {
      const PixelTerm<T> term = terms[p];
      weight[p] = term.weight;
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
        x[p][v] = Vector<S, kSize>::Load(AtPixel(from[v], term.pixel, channels_));
      }
    }
#pragma unroll
    for (int p = 0; p < kPixels; ++p) {
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
#pragma unroll
        for (int i = 0; i < kSize; ++i) sum_[v][i] += weight[p] * x[p][v][i];
      }
    }
  }

  const int channels_;
  int channel_[kVectors];
  T sum_[kVectors][kSize];
};

template <typename S, int kSize, int kVectors>
__global__ void __launch_bounds__(32 * kWarps, 6)
    PoolBins(const GpuRoiProblem<S> problem, const RoiLaunch launch, S* __restrict__ y) {
  using T = Compute<S>;
  using Sums = ChannelSums<S, kSize, kVectors>;
  using Bins = WarpBins<S, PixelTerm<T>>;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  const int warp = threadIdx.x / 32, task = blockIdx.x * kWarps + warp;
  const int64_t roi = launch.begin + task / launch.warps_per_roi;
  if (roi >= launch.end) return;
  Bins bins(problem, shared_memory + warp * Bins::SharedBytes(problem.entry_bits));
  bins.MoveToRoi(roi);
  const S* map =
      problem.IsKnown(roi) ? problem.levels[problem.level_of_roi[roi]].features + problem.MapOffset(roi) : nullptr;
  const int first = task % launch.warps_per_roi * launch.bins_per_warp;
  for (int bin = first; bin < min(first + launch.bins_per_warp, problem.bins); ++bin) {
    bins.MoveToBin(bin);
    const int64_t target = roi * problem.bins + bin;
    T scale = problem.mask == nullptr ? T(1) : problem.mask[target];
    if (bins.IsNan()) scale = static_cast<T>(NAN);
    for (int channel = 0; channel < problem.channels; channel += Sums::kChannels) {
      Sums sums(channel, problem.channels);
      if (!bins.IsNan()) {
        bins.ForEachList([&](const PixelTerm<T>* terms, int count) { sums.Add(map, terms, count); });
      }
      sums.Store(scale, y + target * problem.channels);
    }
  }
}

template <typename S, int kSize, int kVectors>
cudaError_t LaunchPoolBins(const GpuRoiProblem<S>& problem, S* y, cudaStream_t stream) {
  using Bins = WarpBins<S, PixelTerm<Compute<S>>>;
  return ForEachRoiLaunch(problem, Bins::kSlots, [&](const RoiLaunch& launch) {
    return LaunchKernel(PoolBins<S, kSize, kVectors>, CeilDiv(launch.warps(), kWarps), 32 * kWarps,
                        kWarps * Bins::SharedBytes(problem.entry_bits), stream, problem, launch, y);
  });
}

}  // namespace

template <typename S>
cudaError_t DeformRoiPoolForwardGpu(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs, S* y,
                                    cudaStream_t stream) {
  constexpr int kVector = 16 / sizeof(S);
  GpuRoiProblem<S> problem;
  if (!MakeGpuRoiProblem(shape, inputs, &problem)) return cudaErrorInvalidValue;
  if (shape.rois == 0 || problem.bins == 0 || shape.channels == 0) return cudaSuccess;
  // 256 channels are 64 vectors of float32, and 32 of 16 bits.
  constexpr int kVectors = sizeof(S) == 2 ? 1 : 2;
  return TakesVectors<kVector>(problem) && IsAligned(y, 16) ? LaunchPoolBins<S, kVector, kVectors>(problem, y, stream)
                                                            : LaunchPoolBins<S, 1, 2>(problem, y, stream);
}

#define DCNV2_INSTANTIATE(S)                                                                                    \
  template cudaError_t DeformRoiPoolForwardGpu<S>(const DeformRoiPoolShape&, const DeformRoiPoolInputs<S>&, S*, \
                                                  cudaStream_t)
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
