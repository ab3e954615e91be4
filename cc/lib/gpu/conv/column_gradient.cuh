// dcolumn = dy * kernel^T of a tile of pixels, for one tap and a chunk of channels after the other, left in shared
// memory.
#ifndef DCNV2_CC_LIB_GPU_CONV_COLUMN_GRADIENT_CUH_
#define DCNV2_CC_LIB_GPU_CONV_COLUMN_GRADIENT_CUH_

#include <algorithm>

#include "cc/lib/deform_conv2d.h"
#include "cc/lib/gpu/common/vector.cuh"
#include "cc/lib/gpu/product/tile_product.cuh"

namespace dcnv2 {

// A rectangle of output pixels, part of it perhaps beyond the map's right or lower edge.
struct PixelTile {
  int64_t first;      // pixel of the batch
  int width;          // pixels of a row
  int rows, columns;  // that exist
  int64_t map_width;

  static constexpr uint32_t kNone = 0xffffffffu;

  // Of the i-th pixel from the first; kNone where it does not exist.
  __device__ __forceinline__ uint32_t Offset(int i) const {
    const int row = static_cast<int>(static_cast<uint32_t>(i) / static_cast<uint32_t>(width));
    const int column = i - row * width;
    return row < rows && column < columns ? static_cast<uint32_t>(row * map_width + column) : kNone;
  }
};

// dcolumn of the tile's pixels at one tap and a chunk of channels, in shared memory.
template <typename T>
struct ColumnChunk {
  const T* data;
  int stride;  // from pixel to pixel
  int64_t first_channel;
  int channels;
};

// Up to kPixels x kChannels at once, kDepth output channels a step. kVector is the number of elements that are copied
// together: as many as 16 bytes hold, or one.
template <typename S, TileMath kMath, int kPixels, int kChannels, int kDepth, int kThreads, int kVector>
class ColumnGradient {
  using T = Compute<S>;
  using Element = TileElement<S, kMath>;
  using Product = TileProduct<kMath, Element, kPixels, kChannels, kDepth, kThreads, TileLayout::kRowMajor,
                              TileLayout::kColumnMajor>;
  static constexpr int kStageBytes = Product::kABytes + Product::kBBytes;

 public:
  // Channels of x, not more than kChannels, and the output channels that any of them has weights for.
  struct Chunk {
    int first, count;
    int first_out, end_out;
  };

  // From one pixel of the product to the next. Rows of the fragments that are written together lie in different banks.
  static constexpr int kStride = kChannels + 8;
  // Two places, each for a stage of both factors or for the product.
  static constexpr int kPlaceBytes = std::max(kStageBytes, kPixels * kStride * static_cast<int>(sizeof(T)));
  static constexpr int kSharedBytes = 2 * kPlaceBytes;

  // `memory` has kSharedBytes, aligned to 16.
  __device__ __forceinline__ ColumnGradient(const DeformConv2DShape& shape, const S* kernel, const S* dy,
                                            const PixelTile& tile, unsigned char* memory)
      : group_in_(static_cast<int>(shape.group_in_channels())),
        group_out_(static_cast<int>(shape.group_out_channels())),
        out_channels_(static_cast<int>(shape.out_channels)),
        kernel_(kernel),
        dy_(dy + tile.first * out_channels_),
        memory_(memory) {
#pragma unroll
    for (int pass = 0; pass < kPixelPasses; ++pass) pixel_[pass] = tile.Offset(Line(pass));
  }

  // The next channels from `first` on, before `end`. Small groups share a chunk, whose product then is block diagonal:
  // a channel's weights for other groups' outputs are zero. (So in dx of the channels that share a chunk, what is not
  // finite spreads from one group's outputs to another's channels.)
  __device__ __forceinline__ Chunk Divide(int first, int end) const {
    int chunk_end = min(first + kChannels, end);
    const int whole = chunk_end / group_in_ * group_in_;
    if (whole > first && whole % kVector == 0) chunk_end = whole;
    return {first, chunk_end - first, first / group_in_ * group_out_, ((chunk_end - 1) / group_in_ + 1) * group_out_};
  }

  // The chunk that Begin and Multiply are called for from now on.
  __device__ __forceinline__ void Select(const Chunk& chunk) {
#pragma unroll
    for (int pass = 0; pass < kChannelPasses; ++pass) {
      const int channel = chunk.first + Line(pass);
      const int group = channel / group_in_;
      row_[pass] = channel - group * group_in_;
      first_out_[pass] = Line(pass) < chunk.count ? group * group_out_ : kNoOutput;
    }
  }

  // Starts to read what Multiply will need first. A product that is still in use is left alone.
  __device__ __forceinline__ void Begin(const Chunk& chunk, int tap) {
    tap_ = kernel_ + int64_t{tap} * group_in_ * out_channels_;
    Load(chunk, chunk.first_out);
  }

  // Multiplies what has begun. Called by all threads, which have to wait for each other before they use the product; it
  // stays until the product after it is multiplied. Pixels and channels of which there are none are zeros, unless they
  // come from factors that are not finite.
  __device__ __forceinline__ ColumnChunk<T> Multiply(const Chunk& chunk) {
    Product product;
    product.Clear();
    for (int out = chunk.first_out; out < chunk.end_out; out += kDepth) {
      ptx::CopyAsyncWait<0>();
      // What was loaded last is there for everybody, and nobody needs the other place any more.
      __syncthreads();
      const int place = place_;
      place_ ^= 1;
      if (out + kDepth < chunk.end_out) Load(chunk, out + kDepth);
      product.Accumulate(A(place), B(place));
    }
    __syncthreads();
    T* const columns = reinterpret_cast<T*>(Place(place_ ^ 1));
    product.ForEach([columns](int row, int column, const T(&values)[Product::kRun]) {
      struct alignas(Product::kRun * sizeof(T)) Run {
        T values[Product::kRun];
      } run;
#pragma unroll
      for (int i = 0; i < Product::kRun; ++i) run.values[i] = values[i];
      *reinterpret_cast<Run*>(columns + row * kStride + column) = run;
    });
    return {columns, kStride, chunk.first, chunk.count};
  }

 private:
  // Threads lie side by side along the output channels of a pixel or channel, then along those.
  static constexpr int kThreadsPerLine = kDepth / kVector;
  static constexpr int kLinesPerPass = kThreads / kThreadsPerLine;
  static constexpr int kPixelPasses = kPixels / kLinesPerPass, kChannelPasses = kChannels / kLinesPerPass;
  static_assert(kPixels % kLinesPerPass == 0 && kChannels % kLinesPerPass == 0, "all threads copy alike");

  static constexpr int kNoOutput = 0x7fffffff;

  static __device__ __forceinline__ int Line(int pass) {
    return static_cast<int>(threadIdx.x) / kThreadsPerLine + pass * kLinesPerPass;
  }
  __device__ __forceinline__ unsigned char* Place(int place) const { return memory_ + place * kPlaceBytes; }
  __device__ __forceinline__ Element* A(int place) const { return reinterpret_cast<Element*>(Place(place)); }
  __device__ __forceinline__ Element* B(int place) const {
    return reinterpret_cast<Element*>(Place(place) + Product::kABytes);
  }

  // Starts copying kDepth output channels of both factors to the next place.
  __device__ __forceinline__ void Load(const Chunk& chunk, int first_out) const {
    const int k = static_cast<int>(threadIdx.x) % kThreadsPerLine * kVector;
    const int out = first_out + k;
    // The product of two numbers of 32 bits and the sum of 64 are one instruction.
#pragma unroll
    for (int pass = 0; pass < kPixelPasses; ++pass) {
      const bool valid = pixel_[pass] != PixelTile::kNone && out < chunk.end_out;
      Copy(dy_ + (valid ? uint64_t{pixel_[pass]} * static_cast<uint32_t>(out_channels_) + out : 0), valid,
           A(place_) + Line(pass) * Product::kAStride + k);
    }
#pragma unroll
    for (int pass = 0; pass < kChannelPasses; ++pass) {
      const bool valid = out >= first_out_[pass] && out - first_out_[pass] < group_out_;
      Copy(tap_ + (valid ? int64_t{row_[pass]} * out_channels_ + out : 0), valid,
           B(place_) + Line(pass) * Product::kBStride + k);
    }
    ptx::CopyAsyncCommit();
  }

  static __device__ __forceinline__ void Copy(const S* source, bool valid, Element* target) {
    if constexpr (kVector > 1) {
      ptx::CopyAsync16(target, source, valid);
    } else {
      *target = valid ? Vector<S, 1>::Load(source)[0] : Element(0);
    }
  }

  const int group_in_, group_out_, out_channels_;
  const S* const kernel_;
  const S* const dy_;  // at the tile's first pixel
  unsigned char* const memory_;
  uint32_t pixel_[kPixelPasses];  // that the thread copies, from the first
  // Of the channels that it copies: the row within the tap, and the first output of the channel's group, which is
  // kNoOutput beyond the chunk.
  int row_[kChannelPasses], first_out_[kChannelPasses];
  const S* tap_ = nullptr;  // of the kernel
  int place_ = 0;           // of the stage that is loaded next, or was last
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_CONV_COLUMN_GRADIENT_CUH_
