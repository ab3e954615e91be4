// A window of dx in shared memory, where a block sums what its samples add to the map before the sums go to memory.
//
// Nothing here is atomic: shared memory of any device up to compute capability 12.0 adds floats by a loop of
// compare-and-swap only. Instead every number of the window has one owner. The four pixels that a sample touches are
// neighbours, so that of even and odd rows and columns each pairing occurs once: a warp owns each of the four, and a
// lane of it a thirty-second of the channels. Each owner goes through the samples in their order, so the sums of a
// block are always the same. It reads the sum that comes next before it writes the last one, because a warp that waits
// for shared memory once for every sample is the slowest part of the whole pass.
//
// In cycles of shared memory (128 bytes each) per sample and 64 float32 channels, counted and not measured: 16 to read
// and write four pixels, 8 to read the column four times, 4 to read the shares. They replace 256 atomic additions in
// the second-level cache, which take about 100 cycles of a multiprocessor's share of it on compute capability 9.0.
#ifndef DCNV2_CC_LIB_GPU_CONV_GRADIENT_WINDOW_CUH_
#define DCNV2_CC_LIB_GPU_CONV_GRADIENT_WINDOW_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "cc/lib/gpu/common/ptx.cuh"
#include "cc/lib/gpu/common/vector.cuh"
#include "cc/lib/gpu/conv/column_gradient.cuh"
#include "cc/lib/gpu/conv/sampling.cuh"

namespace dcnv2 {

// Which pixels of an image a window covers.
struct WindowPlace {
  int32_t top, left, rows, columns;

  __device__ __forceinline__ bool Contains(int32_t row, int32_t column) const {
    return row >= top && row - top < rows && column >= left && column - left < columns;
  }
};

// What a sample adds to one of its four pixels.
template <typename T>
struct alignas(2 * sizeof(T)) PixelShare {
  // Where the pixel begins in the window, with kAtEdge where other corners of the sample, beyond the edge of the map,
  // are one with it. Outside of the window: the pixel of the image, inverted, that is negative.
  int32_t place;
  T weight;

  static constexpr int32_t kAtEdge = 1;
  static constexpr int32_t kNothing = INT32_MIN;  // there is nothing to add

  __device__ __forceinline__ bool IsInside() const { return place >= 0; }
};

// A map of sums, and how its pixels are laid out.
template <typename T>
struct MapSums {
  T* data;
  int32_t width;
  int64_t channels;
};

// Of kChannels channels at a time, for tiles of kPixels pixels. Vectors of kWidth channels are added to memory
// together.
template <typename T, int kPixels, int kChannels, int kThreads, int kWidth>
class GradientWindow {
 public:
  static constexpr int kOwners = 128;  // threads
  static constexpr int kPixelBytes = kChannels * sizeof(T);
  static constexpr int kShareBytes = 4 * kPixels * sizeof(PixelShare<T>);
  static __host__ __device__ constexpr int Bytes(int window_pixels) { return window_pixels * kPixelBytes; }

  // Both are aligned to 16 bytes.
  __device__ __forceinline__ GradientWindow(const WindowPlace& place, unsigned char* shares, unsigned char* sums)
      : place_(place), shares_(reinterpret_cast<PixelShare<T>*>(shares)), sums_(reinterpret_cast<T*>(sums)) {}

  // By all threads.
  __device__ __forceinline__ void Clear() const {
    T zeros[kWidth] = {};
    const int size = place_.rows * place_.columns * kChannels;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x) * kWidth; i < size; i += kThreads * kWidth) {
      Vector<T, kWidth>::Store(zeros, sums_ + i);
    }
  }

  // By one thread for every pixel of the tile: where its sample at the current tap adds.
  __device__ __forceinline__ void Plan(int pixel, const BilinearSample<T>& sample,
                                       const PlannedGradient<T>& planned) const {
    const AxisSample<T>&row = sample.row, &column = sample.column;
    // At the edge of the map corners are one and the same pixel, and all of them but one have no weight. A pixel of the
    // window has one owner, so there such corners have to become one.
    const bool one_row = row.low == row.high, one_column = column.low == column.high;
    const int32_t at_edge = one_row || one_column ? PixelShare<T>::kAtEdge : 0;
    const bool absent = IsAbsent(planned.corner[0]);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int below = i / 2, right = i % 2;
      const int32_t pixel_row = below ? row.high : row.low, pixel_column = right ? column.high : column.low;
      PixelShare<T> share = {~planned.corner[i], planned.weight[i]};
      if (absent) {
        share.place = PixelShare<T>::kNothing;
      } else if (place_.Contains(pixel_row, pixel_column)) {
        const bool is_another = (one_row && below) || (one_column && right);
        share.place = is_another ? PixelShare<T>::kNothing : Position(pixel_row, pixel_column) | at_edge;
        if (one_row) share.weight += planned.weight[i ^ 2];
        if (one_column) share.weight += planned.weight[i ^ 1];
        if (one_row && one_column) share.weight += planned.weight[i ^ 3];
      }
      // All four owners have a share, which is nothing for those whose pixel is beyond the edge.
      shares_[4 * pixel + ((row.low + below) & 1) * 2 + ((column.low + right) & 1)] = share;
    }
  }

  // By the owners, which are the first threads: adds the tile's columns at the current tap to the window, and those of
  // samples outside of it to the map. The origin of a pixel is the first element of its image.
  __device__ __forceinline__ void Add(const ColumnChunk<T>& columns, const MapSums<T>& map,
                                      const int64_t* origin) const {
    const int owner = static_cast<int>(threadIdx.x) / 32;
    const int channel = static_cast<int>(threadIdx.x) % 32 * kOwned;
    T* const window = sums_ + channel;
    const T* const own_columns = columns.data + channel;
    PixelShare<T> next = shares_[owner], after_next = shares_[4 + owner];
    Owned next_column = Owned::LoadWritten(own_columns), next_sums = ReadSums(next, window);
    int32_t written = PixelShare<T>::kNothing;
    T sums[kOwned] = {};
#pragma unroll 4
    for (int i = 0; i < kPixels; ++i) {
      const PixelShare<T> share = next;
      const Owned column = next_column, read = next_sums;
      // The next are on their way while this one is added.
      next = after_next;
      if (i + 1 < kPixels) {
        next_column = Owned::LoadWritten(own_columns + (i + 1) * columns.stride);
        next_sums = ReadSums(next, window);
      }
      if (i + 2 < kPixels) after_next = shares_[4 * (i + 2) + owner];
      // The same for all lanes.
      if (share.IsInside()) {
        const int32_t place = share.place & ~PixelShare<T>::kAtEdge;
        // What was written last was not there yet when this was read.
        const bool is_last = place == written;
#pragma unroll
        for (int k = 0; k < kOwned; ++k) sums[k] = (is_last ? sums[k] : read[k]) + share.weight * column[k];
        if (share.place & PixelShare<T>::kAtEdge) {
          // Corners beyond the edge have no weight, and zero times infinity is NaN.
#pragma unroll
          for (int k = 0; k < kOwned; ++k) sums[k] += T(0) * column[k];
        }
        Owned::Store(sums, window + place);
        written = place;
      } else if (share.place != PixelShare<T>::kNothing) {
        AddOutside(share, columns, i, map, origin[i]);
      }
    }
  }

  // By all threads: adds the sums to the image that begins at `origin`, and clears them.
  __device__ __forceinline__ void Flush(const ColumnChunk<T>& columns, const MapSums<T>& map, int64_t origin) const {
    const int channel = static_cast<int>(threadIdx.x) % kLanes * kWidth;
    const int pixels = place_.rows * place_.columns;
    T* const target = map.data + origin + columns.first_channel + channel;
    int row = 0, column = static_cast<int>(threadIdx.x) / kLanes;
#pragma unroll 1
    for (int i = column; i < pixels; i += kPixelsAtOnce) {
      for (; column >= place_.columns; column -= place_.columns) ++row;
      T* const sums = sums_ + i * kChannels + channel;
      const auto packed = Vector<T, kWidth>::LoadWritten(sums);
      T values[kWidth];
#pragma unroll
      for (int k = 0; k < kWidth; ++k) values[k] = packed[k];
      // What was not touched need not exist.
      if (channel < columns.channels) {
        const auto pixel = static_cast<uint32_t>((place_.top + row) * map.width + place_.left + column);
        AddToMemory(values, target + int64_t{pixel} * map.channels);
      }
      T zeros[kWidth] = {};
      Vector<T, kWidth>::Store(zeros, sums);
      column += kPixelsAtOnce;
    }
  }

 private:
  static constexpr int kOwned = kChannels / 32;  // channels of a lane
  static_assert(kChannels % 32 == 0 && kOwned * sizeof(T) <= 16, "a lane owns one vector");
  static constexpr int kLanes = kChannels / kWidth;  // threads of a pixel that is added to memory
  static constexpr int kPixelsAtOnce = kThreads / kLanes;
  static_assert(kThreads % kLanes == 0 && 32 % kLanes == 0, "threads share pixels evenly");
  static_assert(kThreads >= kOwners, "every number has an owner");
  using Owned = Vector<T, kOwned>;

  __device__ __forceinline__ int32_t Position(int32_t row, int32_t column) const {
    return ((row - place_.top) * place_.columns + column - place_.left) * kChannels;
  }

  static __device__ __forceinline__ Owned ReadSums(const PixelShare<T>& share, const T* window) {
    return share.IsInside() ? Owned::LoadWritten(window + (share.place & ~PixelShare<T>::kAtEdge)) : Owned();
  }

  static __device__ __forceinline__ void AddOutside(const PixelShare<T>& share, const ColumnChunk<T>& columns,
                                                    int pixel, const MapSums<T>& map, int64_t origin) {
    const int channel = static_cast<int>(threadIdx.x) % 32 * kWidth;
    if (channel >= columns.channels) return;
    const auto column = Vector<T, kWidth>::LoadWritten(columns.data + pixel * columns.stride + channel);
    T values[kWidth];
#pragma unroll
    for (int k = 0; k < kWidth; ++k) values[k] = share.weight * column[k];
    AddToMemory(values, map.data + origin + columns.first_channel + channel + int64_t{~share.place} * map.channels);
  }

  // Zeros need no addition: at whole-numbered positions three of the four corners have no share.
  static __device__ __forceinline__ void AddToMemory(const T (&values)[kWidth], T* to) {
    bool any = false;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) any |= values[k] != T(0);
    if (!any) return;
    if constexpr (kWidth == 4) {
      ptx::AtomicAdd4(to, make_float4(values[0], values[1], values[2], values[3]));
    } else {
      static_assert(kWidth == 1);
      atomicAdd(to, values[0]);
    }
  }

  const WindowPlace place_;
  PixelShare<T>* const shares_;
  T* const sums_;
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_CONV_GRADIENT_WINDOW_CUH_
