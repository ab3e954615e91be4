// The gradient with respect to features in a fixed order: a warp owns some rows of a map and some channels, and adds
// all RoIs to them, one after the other. So each sum belongs to one thread.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "cc/lib/geometry.h"
#include "cc/lib/gpu/common/launch.h"
#include "cc/lib/gpu/common/vector.cuh"
#include "cc/lib/gpu/roi/deform_roi_pool_backward.h"
#include "cc/lib/gpu/roi/roi_bins.cuh"

namespace dcnv2 {
namespace {

constexpr int kWarps = 4;  // of a block; they have nothing to do with each other
// Few rows for many warps, though those that share a bin all search for its pixels.
constexpr int kBandRows = 2;

// What one warp owns.
struct Ownership {
  int level, image, first_channel;
  GpuRowBand band;
};

template <typename S>
DCNV2_INLINE int64_t BandsOfLevel(const GpuRoiProblem<S>& problem, int level) {
  const RoiLevel& size = problem.levels[level].size;
  return size.width == 0 ? 0 : (int64_t{size.height} + kBandRows - 1) / kBandRows;
}

// Owners are counted by level, image, band, channels. `index` is not beyond the last.
template <typename S>
__device__ Ownership OwnershipOf(const GpuRoiProblem<S>& problem, int64_t index, int channels) {
  const int64_t chunks = (problem.channels + channels - 1) / channels;
  int level = 0;
  while (index >= BandsOfLevel(problem, level) * problem.batch * chunks) {
    index -= BandsOfLevel(problem, level++) * problem.batch * chunks;
  }
  const int64_t band = index / chunks;
  const int first_row = static_cast<int>(band % BandsOfLevel(problem, level)) * kBandRows;
  return {level,
          static_cast<int>(band / BandsOfLevel(problem, level)),
          static_cast<int>(index % chunks) * channels,
          {first_row, min(first_row + kBandRows, problem.levels[level].size.height)}};
}

// Whether samples of a RoI of this level, a different one for each thread, may touch a band. Those that are NaN don't.
template <typename S>
__device__ bool MayTouch(const GpuRoiProblem<S>& problem, int64_t roi, const RoiLevel& size, const GpuRowBand& band) {
  using T = Compute<S>;
  const DeformRoiPoolConfig& config = problem.config;
  const int pooled_width = static_cast<int>(config.pooled_width);
  const T* box = problem.boxes + 4 * roi;
  const RoiAxis<T> axis = MakeRoiAxis(box[0], box[2], config.pooled_height, size.height, size.spatial_scale,
                                      config.sampling_ratio, config.convention);
  // A little more than the positions, which the compiler may round differently here, by some units of the last place of
  // what they are sums of. Positions beyond the map by a pixel or less touch its edge.
  const T slack = T(0.0625) + (fabs(axis.start) + fabs(axis.size)) * T(0x1p-20);
  const T low = T(band.begin) - T(1) - slack, high = T(band.end) + slack;
  for (int bin = 0; bin < problem.bins; bin += problem.offset == nullptr ? pooled_width : 1) {
    T shift = 0;
    if (problem.offset != nullptr) {
      shift = problem.offset[2 * (roi * problem.bins + bin)] * static_cast<T>(config.gamma) * axis.size;
    }
    const T first = axis.Position(bin / pooled_width, 0, config.convention) + shift;
    const T last = axis.Position(bin / pooled_width, axis.total_samples - 1, config.convention) + shift;
    if ((first <= high || last <= high) && (first >= low || last >= low)) return true;
  }
  return false;
}

// The channels of a lane, as long as they are those of one bin.
template <typename S, int kSize>
class OwnedChannels {
 public:
  using T = Compute<S>;

  // `sums` are of the image, from the lane's first channel on.
  __device__ __forceinline__ OwnedChannels(const S* dy, T scale, int channels, T* sums)
      : channels_(channels), sums_(sums) {
    const auto stored = Vector<S, kSize>::Load(dy);
#pragma unroll
    for (int i = 0; i < kSize; ++i) dy_[i] = scale * stored[i];
  }

  __device__ __forceinline__ void Add(const PixelTerm<T>* terms, int count) {
    int i = 0;
    for (; i + 4 <= count; i += 4) AddPixels<4>(terms + i);
    for (; i < count; ++i) AddPixels<1>(terms + i);
  }

 private:
  // Pixels differ, so all loads may be under way before the first number is stored.
  template <int kPixels>
  __device__ __forceinline__ void AddPixels(const PixelTerm<T>* terms) {
    T* to[kPixels];
    Vector<T, kSize> old[kPixels];
#pragma unroll
    for (int p = 0; p < kPixels; ++p) {
      to[p] = AtPixel(sums_, terms[p].pixel, channels_);
      old[p] = Vector<T, kSize>::LoadWritten(to[p]);
    }
#pragma unroll
    for (int p = 0; p < kPixels; ++p) {
      T sum[kSize];
#pragma unroll
      for (int i = 0; i < kSize; ++i) sum[i] = old[p][i] + terms[p].weight * dy_[i];
      Vector<T, kSize>::Store(sum, to[p]);
    }
  }

  const int channels_;
  T* const sums_;
  T dy_[kSize];
};

template <typename S, int kSize>
__global__ void __launch_bounds__(32 * kWarps, 4)
    OrderedGradient(const GpuRoiProblem<S> problem, int64_t owners, const S* __restrict__ dy) {
  using T = Compute<S>;
  using Bins = WarpBins<S, PixelTerm<T>, true>;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t owner = int64_t{blockIdx.x} * kWarps + warp;
  if (owner >= owners) return;
  const Ownership own = OwnershipOf(problem, owner, 32 * kSize);
  const auto level = problem.levels[own.level];
  const int channel = own.first_channel + lane * kSize;
  const bool has_channels = channel < problem.channels;
  T* const sums = level.sums + int64_t{own.image} * level.size.height * level.size.width * problem.channels + channel;
  Bins bins(problem, shared_memory + warp * Bins::SharedBytes(problem.entry_bits));
  for (int64_t first_roi = 0; first_roi < problem.rois; first_roi += 32) {
    const int64_t roi_of_lane = first_roi + lane;
    const bool touches = roi_of_lane < problem.rois && problem.level_of_roi[roi_of_lane] == own.level &&
                         problem.box_indices[roi_of_lane] == own.image &&
                         MayTouch(problem, roi_of_lane, level.size, own.band);
    for (unsigned left = __ballot_sync(kAllLanes, touches); left != 0; left &= left - 1) {
      const int64_t roi = first_roi + __ffs(left) - 1;
      bins.MoveToRoi(roi, own.band);
      for (int bin = 0; bin < problem.bins; ++bin) {
        bins.MoveToBin(bin);
        // A NaN position feeds no pixel: its offset's gradient is NaN, which is enough to notice.
        if (bins.IsNan()) continue;
        const int64_t target = roi * problem.bins + bin;
        bins.ForEachList([&](const PixelTerm<T>* terms, int count) {
          if (!has_channels) return;
          const T scale = problem.mask == nullptr ? T(1) : problem.mask[target];
          OwnedChannels<S, kSize>(dy + target * problem.channels + channel, scale, problem.channels, sums)
              .Add(terms, count);
        });
      }
    }
  }
}

template <typename S, int kSize>
cudaError_t LaunchOrderedGradient(const GpuRoiProblem<S>& problem, const S* dy, cudaStream_t stream) {
  using Bins = WarpBins<S, PixelTerm<Compute<S>>, true>;
  int64_t owners = 0;
  for (int level = 0; level < problem.level_count; ++level) {
    owners += BandsOfLevel(problem, level) * problem.batch * CeilDiv(problem.channels, 32 * kSize);
  }
  return LaunchKernel(OrderedGradient<S, kSize>, CeilDiv(owners, kWarps), 32 * kWarps,
                      kWarps * Bins::SharedBytes(problem.entry_bits), stream, problem, owners, dy);
}

}  // namespace

template <typename S>
cudaError_t OrderedRoiFeatureGradientGpu(const GpuRoiProblem<S>& problem, const S* dy, bool vectors,
                                         cudaStream_t stream) {
  return vectors ? LaunchOrderedGradient<S, kRoiGradientVector<S>>(problem, dy, stream)
                 : LaunchOrderedGradient<S, 1>(problem, dy, stream);
}

#define DCNV2_INSTANTIATE(S) \
  template cudaError_t OrderedRoiFeatureGradientGpu<S>(const GpuRoiProblem<S>&, const S*, bool, cudaStream_t)
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
