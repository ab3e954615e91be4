// The products of columns with what x holds at the corners of their samples. The gradients of offset and mask are forms
// of them.
#ifndef DCNV2_CC_LIB_GPU_CONV_COLUMN_DOTS_CUH_
#define DCNV2_CC_LIB_GPU_CONV_COLUMN_DOTS_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "cc/lib/gpu/common/vector.cuh"
#include "cc/lib/gpu/conv/column_gradient.cuh"
#include "cc/lib/gpu/conv/sampling.cuh"

namespace dcnv2 {

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

// By the threads of a block from `first_thread` on, which is a multiple of 32: kLanes lanes deal with a pixel of the
// tile, each with kWidth of its channels.
template <typename S, int kPixels, int kThreads, int kLanes, int kWidth>
class ColumnDots {
 public:
  using T = Compute<S>;

  // Of every pixel of the tile, in shared memory: the corners of its sample, in its image, the first -1 where the
  // sample is absent; and where that image begins in x.
  __device__ __forceinline__ ColumnDots(const S* x, int64_t in_channels, const int4* corners, const int64_t* origins,
                                        int first_thread)
      : x_(x), in_channels_(in_channels), corners_(corners), origins_(origins), first_thread_(first_thread) {}

  // Adds to dots[4 * pixel + corner].
  __device__ __forceinline__ void Add(const ColumnChunk<T>& columns, T* dots) const {
    const bool has_channels = Channel() < columns.channels;
    Corners next = Read(columns, FirstPixel());
    // All lanes go round equally often, because they sum over each other.
#pragma unroll 1
    for (int i = FirstPixel(); i < kPixels; i += PixelsAtOnce()) {
      const Corners corners = next;
      // The next pixel's corners are on their way while this one is dealt with.
      if (i + PixelsAtOnce() < kPixels) next = Read(columns, i + PixelsAtOnce());
      T products[4] = {};
      if (has_channels && !IsAbsent(corners_[i].x)) {
        const Column column = ReadColumn(columns, i);
#pragma unroll
        for (int c = 0; c < 4; ++c) {
#pragma unroll
          for (int k = 0; k < kWidth; ++k) products[c] += column[k] * corners.pack[c][k];
        }
      }
      const T sum = SumOverLanes<kLanes>(products);
      if (threadIdx.x % (kLanes / 4) == 0) dots[4 * i + threadIdx.x % kLanes / (kLanes / 4)] += sum;
    }
  }

  // Stores the columns themselves, `stride` numbers from pixel to pixel, where there are samples.
  __device__ __forceinline__ void Store(const ColumnChunk<T>& columns, T* target, int64_t stride) const {
    if (Channel() >= columns.channels) return;
#pragma unroll 1
    for (int i = FirstPixel(); i < kPixels; i += PixelsAtOnce()) {
      if (IsAbsent(corners_[i].x)) continue;
      const Column column = ReadColumn(columns, i);
      T values[kWidth];
#pragma unroll
      for (int k = 0; k < kWidth; ++k) values[k] = column[k];
      Column::Store(values, target + i * stride + columns.first_channel + Channel());
    }
  }

 private:
  static_assert(32 % kLanes == 0 && kPixels % (32 / kLanes) == 0, "all lanes of a warp have a pixel");
  using Pack = Vector<S, kWidth>;
  using Column = Vector<T, kWidth>;

  struct Corners {
    Pack pack[4];
  };

  // Within the chunk.
  static __device__ __forceinline__ int Channel() { return static_cast<int>(threadIdx.x) % kLanes * kWidth; }
  __device__ __forceinline__ int FirstPixel() const { return (static_cast<int>(threadIdx.x) - first_thread_) / kLanes; }
  __device__ __forceinline__ int PixelsAtOnce() const { return (kThreads - first_thread_) / kLanes; }

  static __device__ __forceinline__ Column ReadColumn(const ColumnChunk<T>& columns, int i) {
    return Column::LoadWritten(columns.data + i * columns.stride + Channel());
  }

  // Where nothing is sampled, and beyond the last channel, something else that exists.
  __device__ __forceinline__ Corners Read(const ColumnChunk<T>& columns, int i) const {
    const int4 corner = corners_[i];
    const int channel = Channel() < columns.channels ? Channel() : 0;
    const S* const origin = x_ + origins_[i] + columns.first_channel + channel;
    return {{ReadCorner(origin, max(corner.x, 0)), ReadCorner(origin, corner.y), ReadCorner(origin, corner.z),
             ReadCorner(origin, corner.w)}};
  }
  // The product of two numbers of 32 bits and the sum of 64 are one instruction.
  __device__ __forceinline__ Pack ReadCorner(const S* origin, int32_t corner) const {
    return Pack::Load(origin + uint64_t{static_cast<uint32_t>(corner)} * static_cast<uint32_t>(in_channels_));
  }

  const S* const x_;
  const int64_t in_channels_;
  const int4* const corners_;
  const int64_t* const origins_;
  const int first_thread_;
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_CONV_COLUMN_DOTS_CUH_
