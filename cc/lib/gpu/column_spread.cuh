// What becomes of dcolumn = dy * kernel^T at one sample per pixel: weighted, it is added to the four corners of the
// sample in dx; its products with what x holds there are `dots`, of which the gradients of offset and mask are forms.
#ifndef DCNV2_CC_LIB_GPU_COLUMN_SPREAD_CUH_
#define DCNV2_CC_LIB_GPU_COLUMN_SPREAD_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "cc/lib/gpu/ptx.cuh"
#include "cc/lib/gpu/sampling.cuh"
#include "cc/lib/gpu/vector.cuh"

namespace dcnv2 {

// Where the pixels of a tile sample, in shared memory.
template <typename T>
struct SpreadPlan {
  int4* corner;     // pixels of their image; x is -1 where no gradient arrives
  T* weight;        // four for each pixel: the shares of its corners in dx
  T* dots;          // four for each pixel
  int64_t* origin;  // the first element of the pixel's image in x

  static constexpr int kBytesPerPixel = sizeof(int4) + 8 * sizeof(T) + sizeof(int64_t);

  // Takes pixels * kBytesPerPixel bytes, aligned to 16.
  __device__ __forceinline__ SpreadPlan(unsigned char* memory, int pixels)
      : corner(reinterpret_cast<int4*>(memory)),
        weight(reinterpret_cast<T*>(corner + pixels)),
        dots(weight + 4 * pixels),
        origin(reinterpret_cast<int64_t*>(dots + 4 * pixels)) {}

  __device__ __forceinline__ void Set(int i, const PlannedGradient<T>& plan, int64_t image_origin) const {
    corner[i] = make_int4(plan.corner[0], plan.corner[1], plan.corner[2], plan.corner[3]);
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      weight[4 * i + c] = plan.weight[c];
      dots[4 * i + c] = T(0);
    }
    origin[i] = image_origin;
  }
};

// dcolumn of a tile of pixels at one tap and a chunk of channels, in shared memory.
template <typename T>
struct ColumnChunk {
  const T* data;
  int stride;  // from pixel to pixel
  int64_t first_channel;
  int channels;
};

// Sums over kLanes neighbouring lanes; of them, lane l receives the sum of dots[l / (kLanes / 4)].
template <int kLanes, typename T>
__device__ __forceinline__ T SumOverLanes(const T (&dots)[4]) {
  constexpr unsigned kAll = 0xffffffffu;
  constexpr int kHalf = kLanes / 2, kQuarter = kLanes / 4;
  // Each exchange halves how many sums a lane is still concerned with.
  const bool upper = threadIdx.x & kHalf;
  const T first = (upper ? dots[2] : dots[0]) + __shfl_xor_sync(kAll, upper ? dots[0] : dots[2], kHalf);
  const T second = (upper ? dots[3] : dots[1]) + __shfl_xor_sync(kAll, upper ? dots[1] : dots[3], kHalf);
  const bool odd = threadIdx.x & kQuarter;
  T sum = (odd ? second : first) + __shfl_xor_sync(kAll, odd ? first : second, kQuarter);
#pragma unroll
  for (int distance = kQuarter / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(kAll, sum, distance);
  return sum;
}

// Spreads columns by all threads of a block: kLanes lanes deal with a pixel, each with kWidth of its channels.
//
// Additions to dx are atomic. Where `target` is not null the columns themselves go there instead, `target_stride`
// numbers for each pixel.
template <typename S, int kPixels, int kThreads, int kLanes, int kWidth>
class ColumnSpread {
 public:
  using T = Compute<S>;

  __device__ __forceinline__ ColumnSpread(const S* x, T* dx, int64_t in_channels, T* target, int64_t target_stride)
      : x_(x), dx_(dx), in_channels_(in_channels), target_(target), target_stride_(target_stride) {}

  __device__ __forceinline__ void operator()(const ColumnChunk<T>& columns, const SpreadPlan<T>& plan) const {
    const bool has_channels = Channel() < columns.channels;
    const int first = static_cast<int>(threadIdx.x) / kLanes;
    Corners next = Read(columns, plan, first);
    // All lanes go round equally often, because they sum over each other.
#pragma unroll 1
    for (int i = first; i < kPixels; i += kGroups) {
      const Corners corners = next;
      // The next pixel's corners are on their way while this one is dealt with.
      if (i + kGroups < kPixels) next = Read(columns, plan, i + kGroups);
      T dots[4] = {};
      if (has_channels && !IsAbsent(plan.corner[i].x)) AddPixel(columns, plan, i, corners, dots);
      const T sum = SumOverLanes<kLanes>(dots);
      if (threadIdx.x % (kLanes / 4) == 0) plan.dots[4 * i + threadIdx.x % kLanes / (kLanes / 4)] += sum;
    }
  }

 private:
  static constexpr int kGroups = kThreads / kLanes;
  static_assert(kPixels % kGroups == 0);
  using Pack = Vector<S, kWidth>;

  struct Corners {
    Pack pack[4];
  };

  // Within the chunk.
  static __device__ __forceinline__ int Channel() { return static_cast<int>(threadIdx.x) % kLanes * kWidth; }

  // Where nothing is sampled, and beyond the last channel, something else that exists.
  __device__ __forceinline__ Corners Read(const ColumnChunk<T>& columns, const SpreadPlan<T>& plan, int i) const {
    const int4 corner = plan.corner[i];
    const int channel = Channel() < columns.channels ? Channel() : 0;
    const S* const origin = x_ + plan.origin[i] + columns.first_channel + channel;
    return {{Pack::Load(origin + (IsAbsent(corner.x) ? 0 : corner.x) * in_channels_),
             Pack::Load(origin + corner.y * in_channels_), Pack::Load(origin + corner.z * in_channels_),
             Pack::Load(origin + corner.w * in_channels_)}};
  }

  __device__ __forceinline__ void AddPixel(const ColumnChunk<T>& columns, const SpreadPlan<T>& plan, int i,
                                           const Corners& corners, T (&dots)[4]) const {
    T value[kWidth];
    const auto column = Vector<T, kWidth>::LoadWritten(columns.data + i * columns.stride + Channel());
#pragma unroll
    for (int k = 0; k < kWidth; ++k) value[k] = column[k];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
#pragma unroll
      for (int k = 0; k < kWidth; ++k) dots[c] += value[k] * corners.pack[c][k];
    }
    const int64_t channel = columns.first_channel + Channel();
    if (target_ != nullptr) {
      Vector<T, kWidth>::Store(value, target_ + i * target_stride_ + channel);
      return;
    }
    const int4 corner = plan.corner[i];
    const int32_t pixels[4] = {corner.x, corner.y, corner.z, corner.w};
    T* const origin = dx_ + plan.origin[i] + channel;
#pragma unroll
    for (int c = 0; c < 4; ++c) Add(origin + pixels[c] * in_channels_, plan.weight[4 * i + c], value);
  }

  // Zeros need no addition: at whole-numbered positions three of the four corners have no share.
  static __device__ __forceinline__ void Add(T* to, T weight, const T (&value)[kWidth]) {
    bool any = false;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) any |= weight * value[k] != T(0);
    if (!any) return;
    if constexpr (kWidth == 4) {
      ptx::AtomicAdd4(to, make_float4(weight * value[0], weight * value[1], weight * value[2], weight * value[3]));
    } else {
      static_assert(kWidth == 1);
      atomicAdd(to, weight * value[0]);
    }
  }

  const S* const x_;
  T* const dx_;
  const int64_t in_channels_;
  T* const target_;
  const int64_t target_stride_;
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_COLUMN_SPREAD_CUH_
