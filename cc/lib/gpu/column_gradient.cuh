// dcolumn = dy * kernel^T of a tile of pixels at one tap, chunk by chunk of channels, left in shared memory.
#ifndef DCNV2_CC_LIB_GPU_COLUMN_GRADIENT_CUH_
#define DCNV2_CC_LIB_GPU_COLUMN_GRADIENT_CUH_

#include <algorithm>

#include "cc/lib/deform_conv.h"
#include "cc/lib/gpu/tile_product.cuh"
#include "cc/lib/gpu/vector.cuh"

namespace dcnv2 {

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
  // Two stages of both factors, then in their place the product.
  static constexpr int kSharedBytes = std::max(2 * kStageBytes, kPixels * kStride * static_cast<int>(sizeof(T)));

  // `dy` begins at the tile's first pixel.
  __device__ __forceinline__ ColumnGradient(const DeformConvShape& shape, const S* kernel, int tap, const S* dy,
                                            int pixels)
      : group_in_(static_cast<int>(shape.group_in_channels())),
        group_out_(static_cast<int>(shape.group_out_channels())),
        out_channels_(static_cast<int>(shape.out_channels)),
        pixels_(pixels),
        kernel_(kernel + static_cast<int64_t>(tap) * group_in_ * out_channels_),
        dy_(dy) {}

  // The next channels from `first` on, before `end`. Small groups share a chunk, whose product then is block diagonal:
  // a channel's weights for other groups' outputs are zero. (So in dx of the channels that share a chunk, what is not
  // finite spreads from one group's outputs to another's channels.)
  __device__ __forceinline__ Chunk Divide(int first, int end) const {
    int chunk_end = min(first + kChannels, end);
    const int whole = chunk_end / group_in_ * group_in_;
    if (whole > first && whole % kVector == 0) chunk_end = whole;
    return {first, chunk_end - first, first / group_in_ * group_out_, ((chunk_end - 1) / group_in_ + 1) * group_out_};
  }

  // Called by all threads, which have to wait for each other before they use the product, and afterwards again.
  // `memory` is aligned to 16 bytes. Pixels and channels of which there are none are zeros.
  __device__ __forceinline__ T* Multiply(const Chunk& chunk, unsigned char* memory) const {
    const auto a = [memory](int stage) { return reinterpret_cast<Element*>(memory + stage * kStageBytes); };
    const auto b = [memory](int stage) {
      return reinterpret_cast<Element*>(memory + stage * kStageBytes + Product::kABytes);
    };
    const KernelRows rows = LocateRows(chunk);
    Product product;
    product.Clear();
    Load(chunk, rows, chunk.first_out, a(0), b(0));
    int stage = 0;
    for (int out = chunk.first_out; out < chunk.end_out; out += kDepth, stage ^= 1) {
      ptx::CopyAsyncWait<0>();
      // What was loaded last is there for everybody, and nobody needs the other stage any more.
      __syncthreads();
      if (out + kDepth < chunk.end_out) Load(chunk, rows, out + kDepth, a(stage ^ 1), b(stage ^ 1));
      product.Accumulate(a(stage), b(stage));
    }
    __syncthreads();
    T* const columns = reinterpret_cast<T*>(memory);
    product.ForEach([columns](int row, int column, const T(&values)[Product::kRun]) {
      struct alignas(Product::kRun * sizeof(T)) Run {
        T values[Product::kRun];
      } run;
#pragma unroll
      for (int i = 0; i < Product::kRun; ++i) run.values[i] = values[i];
      *reinterpret_cast<Run*>(columns + row * kStride + column) = run;
    });
    return columns;
  }

 private:
  // Threads lie side by side along the output channels of a pixel or channel, then along those.
  static constexpr int kThreadsPerLine = kDepth / kVector;
  static constexpr int kLinesPerPass = kThreads / kThreadsPerLine;
  static constexpr int kPixelPasses = kPixels / kLinesPerPass, kChannelPasses = kChannels / kLinesPerPass;
  static_assert(kPixels % kLinesPerPass == 0 && kChannels % kLinesPerPass == 0, "all threads copy alike");

  // Of the channels that a thread copies: the row within the tap, and the first output of the channel's group, which is
  // kNoOutput beyond the chunk.
  static constexpr int kNoOutput = 0x7fffffff;
  struct KernelRows {
    int row[kChannelPasses], first_out[kChannelPasses];
  };

  static __device__ __forceinline__ int Line(int pass) {
    return static_cast<int>(threadIdx.x) / kThreadsPerLine + pass * kLinesPerPass;
  }

  __device__ __forceinline__ KernelRows LocateRows(const Chunk& chunk) const {
    KernelRows rows;
#pragma unroll
    for (int pass = 0; pass < kChannelPasses; ++pass) {
      const int channel = chunk.first + Line(pass);
      const int group = channel / group_in_;
      rows.row[pass] = channel - group * group_in_;
      rows.first_out[pass] = Line(pass) < chunk.count ? group * group_out_ : kNoOutput;
    }
    return rows;
  }

  // Starts copying kDepth output channels of both factors.
  __device__ __forceinline__ void Load(const Chunk& chunk, const KernelRows& rows, int first_out, Element* a,
                                       Element* b) const {
    const int k = static_cast<int>(threadIdx.x) % kThreadsPerLine * kVector;
    const int out = first_out + k;
#pragma unroll
    for (int pass = 0; pass < kPixelPasses; ++pass) {
      const bool valid = Line(pass) < pixels_ && out < chunk.end_out;
      Copy(dy_ + (valid ? static_cast<int64_t>(Line(pass)) * out_channels_ + out : 0), valid,
           a + Line(pass) * Product::kAStride + k);
    }
#pragma unroll
    for (int pass = 0; pass < kChannelPasses; ++pass) {
      const bool valid = out >= rows.first_out[pass] && out - rows.first_out[pass] < group_out_;
      Copy(kernel_ + (valid ? static_cast<int64_t>(rows.row[pass]) * out_channels_ + out : 0), valid,
           b + Line(pass) * Product::kBStride + k);
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

  const int group_in_, group_out_, out_channels_, pixels_;
  const S* const kernel_;  // of the tap
  const S* const dy_;
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_COLUMN_GRADIENT_CUH_
