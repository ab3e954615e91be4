// Tiles of the column matrix (pixels x channels of one tap), gathered into shared memory from planned samples.
#ifndef DCNV2_CC_LIB_GPU_CONV_COLUMN_GATHER_CUH_
#define DCNV2_CC_LIB_GPU_CONV_COLUMN_GATHER_CUH_

#include "cc/lib/gpu/common/vector.cuh"
#include "cc/lib/gpu/conv/sampling.cuh"
#include "cc/lib/gpu/product/tile_product.cuh"

namespace dcnv2 {

// Where one pixel of the tile samples.
template <typename S>
struct alignas(16) GatherPlan {
  PlannedSample<Compute<S>> sample;
  const S* image;
  int64_t pixel;  // its index
};

// Neighbouring threads read neighbouring channels of one pixel, kVector of them each. A tile takes kPieces reads per
// thread, each of four corners; between reading and writing a piece other work should be done, because what is bound
// here is latency first and then the first-level cache: four bytes are read per byte that is written.
template <typename S, TileMath kMath, int kPixels, int kChannels, int kStride, int kThreads, int kVector>
class ColumnGather {
  using T = Compute<S>;
  using Element = TileElement<S, kMath>;
  static constexpr int kLanes = kChannels / kVector;  // threads of one pixel
  static constexpr int kPixelsAtOnce = kThreads / kLanes;
  static_assert(kThreads % kLanes == 0 && kPixels % kPixelsAtOnce == 0, "pieces are the same for all threads");

 public:
  static constexpr int kPieces = kPixels / kPixelsAtOnce;

  // Where a piece is read from.
  struct Source {
    const S* image;  // the first channel of the image's first pixel
    int4 corners;
    bool absent;
  };
  struct Piece {
    Vector<S, kVector> corners[4];
    bool absent;
  };

  // Channels [channel, channel + count) of the images; count may be less than kChannels, not zero.
  static __device__ __forceinline__ Source Locate(const GatherPlan<S>* plans, int channel, int count, int piece) {
    const GatherPlan<S>& plan = plans[PixelOf(piece)];
    const int4 corners = *reinterpret_cast<const int4*>(plan.sample.corner);
    const bool beyond = FirstChannel() >= count;
    // What is not there is not used, but read from where something is: the code stays without branches.
    return {plan.image + (channel + (beyond ? 0 : FirstChannel())),
            make_int4(max(corners.x, 0), corners.y, corners.z, corners.w), beyond || IsAbsent(corners.x)};
  }

  static __device__ __forceinline__ void Read(const Source& source, int channels, Piece* piece) {
    const uint32_t stride = channels * sizeof(S);
    piece->absent = source.absent;
    piece->corners[0] = ReadCorner(source.image, stride, source.corners.x);
    piece->corners[1] = ReadCorner(source.image, stride, source.corners.y);
    piece->corners[2] = ReadCorner(source.image, stride, source.corners.z);
    piece->corners[3] = ReadCorner(source.image, stride, source.corners.w);
  }

  // Zeros beyond `count`.
  static __device__ __forceinline__ void Write(const GatherPlan<S>* plans, int piece, const Piece& read,
                                               Element* tile) {
    const auto weights = *reinterpret_cast<const TileQuad<T>*>(plans[PixelOf(piece)].sample.weight);
    T values[kVector];
#pragma unroll
    for (int c = 0; c < kVector; ++c) {
      values[c] = weights.values[0] * read.corners[0][c] + weights.values[1] * read.corners[1][c] +
                  weights.values[2] * read.corners[2][c] + weights.values[3] * read.corners[3][c];
    }
    StoreTileElements<kMath>(values, !read.absent, tile + PixelOf(piece) * kStride + FirstChannel());
  }

 private:
  static __device__ __forceinline__ int PixelOf(int piece) { return piece * kPixelsAtOnce + threadIdx.x / kLanes; }
  static __device__ __forceinline__ int FirstChannel() { return threadIdx.x % kLanes * kVector; }
  // The product of two numbers of 32 bits and the sum of 64 are one instruction.
  static __device__ __forceinline__ Vector<S, kVector> ReadCorner(const S* first, uint32_t stride, int32_t corner) {
    const char* address = reinterpret_cast<const char*>(first) + uint64_t{static_cast<uint32_t>(corner)} * stride;
    return Vector<S, kVector>::Load(reinterpret_cast<const S*>(address));
  }
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_CONV_COLUMN_GATHER_CUH_
