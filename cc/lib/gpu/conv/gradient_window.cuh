// A window of dx in shared memory, where a block sums what its samples add to the map before the sums go to memory.
//
// Nothing here is atomic: shared memory of any device up to compute capability 12.0 adds floats by a loop of
// compare-and-swap only. Instead every number of the window has one owner. The two rows of pixels that a sample touches
// are neighbours, so one of them is even and one odd: a warp owns the even rows, another the odd rows, and a lane of it
// a thirty-second of the channels. Each owner goes through the samples in their order, so the sums of a block are
// always the same.
//
// In cycles of shared memory (128 bytes each) per sample and 64 float32 channels, counted and not measured: 16 to read
// and write four pixels, 4 to read the column twice, 2 to read the shares. They replace 256 atomic additions in the
// second-level cache, which take about 100 cycles of a multiprocessor's share of it on compute capability 9.0.
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

  // From one column to another of the same row.
  __device__ __forceinline__ bool Contains(int32_t row, int32_t first, int32_t last) const {
    return row >= top && row - top < rows && first >= left && last - left < columns;
  }
};

// What a sample adds to one of its two rows.
template <typename T>
struct alignas(16) RowShare {
  // Its two pixels in that row. In the window: where they begin there, the first with kAtEdge where corners lie beyond
  // the edge of the map, the second kNothing where it does. Outside: pixels of the image, the first inverted, that is
  // negative.
  int32_t first, second;
  T weight[2];

  static constexpr int32_t kAtEdge = 1;
  static constexpr int32_t kNothing = INT32_MIN;  // in place of a pixel; as `first`: there is nothing to add at all
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
  static constexpr int kOwners = 64;  // threads
  static constexpr int kPixelBytes = kChannels * sizeof(T);
  static constexpr int kShareBytes = 2 * kPixels * sizeof(RowShare<T>);
  static __host__ __device__ constexpr int Bytes(int window_pixels) { return window_pixels * kPixelBytes; }

  // Both are aligned to 16 bytes.
  __device__ __forceinline__ GradientWindow(const WindowPlace& place, unsigned char* shares, unsigned char* sums)
      : place_(place), shares_(reinterpret_cast<RowShare<T>*>(shares)), sums_(reinterpret_cast<T*>(sums)) {}

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
    // At the edge of the map two of the corners are one and the same pixel, and one of the two has no weight. Owners
    // read all pixels before they write any, so in the window they have to become one.
    const bool one_row = sample.row.low == sample.row.high, one_column = sample.column.low == sample.column.high;
    const bool absent = IsAbsent(planned.corner[0]);
    RowShare<T> shares[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int32_t row = i == 0 ? sample.row.low : sample.row.high;
      RowShare<T>& share = shares[i];
      share = {~planned.corner[2 * i], planned.corner[2 * i + 1], {planned.weight[2 * i], planned.weight[2 * i + 1]}};
      if (absent) {
        share.first = RowShare<T>::kNothing;
      } else if (place_.Contains(row, sample.column.low, sample.column.high)) {
        share.first = Position(row, sample.column.low) | (one_row || one_column ? RowShare<T>::kAtEdge : 0);
        share.second = one_column ? RowShare<T>::kNothing : Position(row, sample.column.high);
        if (one_column) share.weight[0] += share.weight[1];
      }
    }
    if (one_row && shares[0].first >= 0) {
#pragma unroll
      for (int i = 0; i < 2; ++i) shares[0].weight[i] += shares[1].weight[i];
      shares[1].first = RowShare<T>::kNothing;
    }
    const int parity = sample.row.low & 1;
    shares_[2 * pixel + parity] = shares[0];
    shares_[2 * pixel + 1 - parity] = shares[1];
  }

  // By the owners, which are the first threads: adds the tile's columns at the current tap to the window, and those of
  // samples outside of it to the map. The origin of a pixel is the first element of its image.
  __device__ __forceinline__ void Add(const ColumnChunk<T>& columns, const MapSums<T>& map,
                                      const int64_t* origin) const {
    const int parity = static_cast<int>(threadIdx.x) / 32;
    const int channel = static_cast<int>(threadIdx.x) % 32 * kOwned;
    RowShare<T> next = shares_[parity];
    Owned next_column = Owned::LoadWritten(columns.data + channel);
#pragma unroll 1
    for (int i = 0; i < kPixels; ++i) {
      const RowShare<T> share = next;
      const Owned column = next_column;
      // The next are on their way while this one is added: what is written here is no reason to wait.
      if (i + 1 < kPixels) {
        next = shares_[2 * (i + 1) + parity];
        next_column = Owned::LoadWritten(columns.data + (i + 1) * columns.stride + channel);
      }
      // The same for all lanes.
      if (share.first >= 0) {
        AddInside(share, column, sums_ + channel);
      } else if (share.first != RowShare<T>::kNothing) {
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
  using Owned = Vector<T, kOwned>;

  __device__ __forceinline__ int32_t Position(int32_t row, int32_t column) const {
    return ((row - place_.top) * place_.columns + column - place_.left) * kChannels;
  }

  static __device__ __forceinline__ void AddInside(const RowShare<T>& share, const Owned& column, T* window) {
    T* const first = window + (share.first & ~RowShare<T>::kAtEdge);
    // The same for all lanes. Without a second pixel the first is read twice and written once.
    const bool has_second = share.second != RowShare<T>::kNothing;
    T* const second = has_second ? window + share.second : first;
    const Owned first_sums = Owned::LoadWritten(first), second_sums = Owned::LoadWritten(second);
    T first_values[kOwned], second_values[kOwned];
#pragma unroll
    for (int k = 0; k < kOwned; ++k) {
      first_values[k] = first_sums[k] + share.weight[0] * column[k];
      second_values[k] = second_sums[k] + share.weight[1] * column[k];
    }
    if (share.first & RowShare<T>::kAtEdge) {
      // Corners beyond the edge have no weight, and zero times infinity is NaN.
#pragma unroll
      for (int k = 0; k < kOwned; ++k) {
        first_values[k] += T(0) * column[k];
        second_values[k] += T(0) * column[k];
      }
    }
    Owned::Store(first_values, first);
    if (has_second) Owned::Store(second_values, second);
  }

  static __device__ __forceinline__ void AddOutside(const RowShare<T>& share, const ColumnChunk<T>& columns, int pixel,
                                                    const MapSums<T>& map, int64_t origin) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int channel = lane % kLanes * kWidth;
    if (channel >= columns.channels) return;
    const auto column = Vector<T, kWidth>::LoadWritten(columns.data + pixel * columns.stride + channel);
    T* const target = map.data + origin + columns.first_channel + channel;
    // As many of the two at once as a warp has lanes for.
#pragma unroll 1
    for (int i = lane / kLanes; i < 2; i += 32 / kLanes) {
      T values[kWidth];
#pragma unroll
      for (int k = 0; k < kWidth; ++k) values[k] = (i == 0 ? share.weight[0] : share.weight[1]) * column[k];
      AddToMemory(values, target + int64_t{i == 0 ? ~share.first : share.second} * map.channels);
    }
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
  RowShare<T>* const shares_;
  T* const sums_;
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_CONV_GRADIENT_WINDOW_CUH_
