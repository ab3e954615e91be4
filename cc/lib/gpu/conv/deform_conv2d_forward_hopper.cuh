// The forward pass on compute capability 9.0, whose matrix units multiply tiles that lie in shared memory while no warp
// waits for them. Warps have roles: producers gather columns into a ring of tiles, and have the kernel's tiles copied
// beside them; consumers multiply. A block has one multiprocessor for itself and computes tile after tile.
//
// The kernel is packed into a workspace before: in the order in which it is used, as tiles that are arranged and
// rounded as the matrix units take them.
//
// Every output is one sum in a fixed order, or the sum of two such sums, one for each half of the channels.
#ifndef DCNV2_CC_LIB_GPU_CONV_DEFORM_CONV2D_FORWARD_HOPPER_CUH_
#define DCNV2_CC_LIB_GPU_CONV_DEFORM_CONV2D_FORWARD_HOPPER_CUH_

#include <algorithm>
#include <cmath>
#include <limits>

#include "cc/lib/gpu/common/launch.h"
#include "cc/lib/gpu/common/ptx_hopper.cuh"
#include "cc/lib/gpu/common/vector.cuh"
#include "cc/lib/gpu/conv/column_variants.h"
#include "cc/lib/gpu/conv/pixel_strips.cuh"
#include "cc/lib/gpu/conv/sampling.cuh"
#include "cc/lib/gpu/product/tile_product.cuh"

namespace dcnv2 {
namespace hopper {

// Rows of tiles are 128 bytes long, which the swizzled arrangement of the matrix units asks for: see
// ptx::SwizzledMatrix.
constexpr int kRowBytes = 128;
constexpr int kVectorsOfRow = kRowBytes / 16;

// Of that arrangement, in bytes.
DCNV2_INLINE int OffsetOfVector(int row, int vector) { return row * kRowBytes + ((vector ^ row % 8) * 16); }

template <typename S>
struct Arguments {
  DeformConv2DShape shape;
  ColumnSizes sizes;
  DeformConv2DInputs<S> inputs;
  S* y;
  PixelStrips strips;
  unsigned char* packed;  // the kernel's tiles
  int* packed_flags;      // of kTf32x3: which parts of the kernel are not finite
  int tiles_per_group, output_tiles;
  int chunks;  // of a group's channels, a row of a tile long
  int tiles;   // of pixels and outputs
};

// What TF32 keeps of a number, and the rest. Adds a zero to `nothing`, or NaN where the number is not finite.
__device__ __forceinline__ void SplitNumber(float value, uint32_t* high, uint32_t* low, float* nothing) {
  *high = ptx::RoundToTf32(value);
  const float rest = value - FloatOf(*high);
  *low = BitsOf(rest);
  *nothing += 0.0f * rest;
}

// Writes a vector of a tile; of kTf32x3 into both tiles, the second of which lies `part_bytes` further.
template <TileMath kMath, typename Element, int kCount>
__device__ __forceinline__ void StoreVector(const float (&values)[kCount], bool exists, unsigned char* target,
                                            int part_bytes, float* nothing) {
  if constexpr (kMath == TileMath::kTf32x3) {
    uint32_t high[4], low[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) SplitNumber(exists ? values[i] : 0.0f, &high[i], &low[i], nothing);
    *reinterpret_cast<uint4*>(target) = make_uint4(high[0], high[1], high[2], high[3]);
    *reinterpret_cast<uint4*>(target + part_bytes) = make_uint4(low[0], low[1], low[2], low[3]);
  } else {
    StoreTileElements<kMath>(values, exists, reinterpret_cast<Element*>(target));
  }
}

// A block packs some rows of one tile.
constexpr int kPackedRows = 32;
constexpr int kPackThreads = kPackedRows * kVectorsOfRow;

template <typename S, TileMath kMath, int kColumns>
__global__ void __launch_bounds__(kPackThreads) PackKernel(const __grid_constant__ Arguments<S> arguments) {
#if defined(DCNV2_HOPPER_CODE)
  constexpr int kVector = 16 / sizeof(S);
  constexpr int kDepth = kRowBytes / sizeof(S);
  constexpr int kParts = kMath == TileMath::kTf32x3 ? 2 : 1;
  constexpr int kBlocksOfTile = kColumns / kPackedRows;
  constexpr int kPartBytes = kColumns * kRowBytes;
  extern __shared__ __align__(1024) unsigned char shared_memory[];
  const auto values = reinterpret_cast<float (*)[kPackedRows + 1]>(shared_memory);
  ptx::LetLaterKernelBegin();
  const ColumnSizes& sizes = arguments.sizes;
  const int first_row = blockIdx.x % kBlocksOfTile * kPackedRows;
  const int step = blockIdx.x / kBlocksOfTile;
  const int tap = step % sizes.taps;
  const int chunk = step / sizes.taps % arguments.chunks;
  const int tile = step / sizes.taps / arguments.chunks;
  const int group = tile / arguments.tiles_per_group;
  {
    constexpr int kVectorsOfChannel = kPackedRows / kVector;
    static_assert(kDepth * kVectorsOfChannel == kPackThreads, "one vector for each thread");
    const int channel = threadIdx.x / kVectorsOfChannel, row = threadIdx.x % kVectorsOfChannel * kVector;
    const int output = tile % arguments.tiles_per_group * kColumns + first_row + row;
    const int64_t kernel_row = int64_t{tap} * sizes.group_channels + chunk * kDepth + channel;
    const bool exists = output < sizes.group_outputs;
    Vector<S> read;
    if (exists) {
      read =
          Vector<S>::Load(arguments.inputs.kernel + kernel_row * sizes.outputs + group * sizes.group_outputs + output);
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) values[channel][row + i] = exists ? read[i] : 0.0f;
  }
  __syncthreads();
  const int row = threadIdx.x / kVectorsOfRow, vector = threadIdx.x % kVectorsOfRow;
  float packed[kVector];
#pragma unroll
  for (int i = 0; i < kVector; ++i) packed[i] = values[vector * kVector + i][row];
  float nothing = 0;
  StoreVector<kMath, S>(
      packed, true, arguments.packed + int64_t{step} * kParts * kPartBytes + OffsetOfVector(first_row + row, vector),
      kPartBytes, &nothing);
  if constexpr (kMath == TileMath::kTf32x3) {
    const int not_finite = __syncthreads_or(!(nothing == 0));
    if (threadIdx.x == 0) arguments.packed_flags[blockIdx.x] = not_finite;
  }
#endif
}

// kConsumers warpgroups multiply kRowBlocks times 64 pixels each with all outputs of the tile, of which kProductColumns
// are in one product. The ring has kStages stages. kSplits blocks of a cluster divide the channels of a tile.
//
// A product of 256 columns needs more registers at its start than threads of a large block have, so it leaves fewer
// producers; it reads left tiles half as often.
template <typename S, TileMath kMath_, int kConsumers_, int kRowBlocks_, int kColumns_, int kProductColumns_,
          int kProducerWarps_, int kStages_, int kSplits_>
struct Tiling {
  using Element = S;
  static constexpr TileMath kMath = kMath_;
  static constexpr int kConsumers = kConsumers_, kRowBlocks = kRowBlocks_;
  static constexpr int kColumns = kColumns_, kProductColumns = kProductColumns_;
  static constexpr int kColumnBlocks = kColumns / kProductColumns;
  static constexpr int kProducerWarps = kProducerWarps_, kStages = kStages_, kSplits = kSplits_;
  static constexpr int kParts = kMath == TileMath::kTf32x3 ? 2 : 1;
  static constexpr int kRows = 64 * kConsumers * kRowBlocks;
  static constexpr int kVector = 16 / sizeof(S);
  static constexpr int kDepth = kRowBytes / sizeof(S);

  static constexpr int kConsumerThreads = 128 * kConsumers;
  static constexpr int kProducerThreads = 32 * kProducerWarps;
  static constexpr int kThreads = kConsumerThreads + kProducerThreads;
  static constexpr int kSums = kProductColumns / 2;  // of a product
  static constexpr int kAllSums = kSums * kRowBlocks * kColumnBlocks;
  // Of a thread: at the start, which is all that a multiprocessor has, and for each role.
  static constexpr int kRegisters = 65536 / kThreads / 8 * 8;
  static constexpr int kConsumerRegisters = kAllSums + (kAllSums < 128 ? 56 : 32);
  static constexpr int kProducerRegisters =
      (kRegisters * kThreads - kConsumerRegisters * kConsumerThreads) / kProducerThreads / 8 * 8;
  static_assert(kThreads % 128 == 0 && kProducerThreads % kRows == 0, "whole warpgroups, and threads that plan alike");

  static constexpr int kAPartBytes = kRows * kRowBytes, kBPartBytes = kColumns * kRowBytes;
  static constexpr int kBBytes = kParts * kBPartBytes;
  static constexpr int kStageBytes = kParts * kAPartBytes + kBBytes;
  // Of shared memory: the ring, then barriers and flags, then plans.
  static constexpr int kPlansOffset = kStages * kStageBytes + 128;
  static int SharedBytes(int taps) { return kPlansOffset + kRows * taps * 20; }
};

// The plans of all taps of a tile's pixels, of one deformable group.
template <typename T>
class Plans {
 public:
  static constexpr uint32_t kColumnStep = 1u << 29, kRowStep = 1u << 30, kAbsent = 1u << 31;

  __device__ __forceinline__ Plans(unsigned char* shared, int taps)
      : weights_(reinterpret_cast<TileQuad<float>*>(shared)),
        corners_(reinterpret_cast<uint32_t*>(weights_ + taps * T::kRows)) {}

  __device__ __forceinline__ TileQuad<float>& weights(int plan) const { return weights_[plan]; }
  // The first corner, whether the second one is another pixel, whether the third is, and whether all are absent.
  __device__ __forceinline__ uint32_t& corners(int plan) const { return corners_[plan]; }

 private:
  TileQuad<float>* const weights_;
  uint32_t* const corners_;
};

template <typename T>
class Ring {
 public:
  __device__ __forceinline__ Ring(unsigned char* shared) : shared_(shared) {}

  __device__ __forceinline__ unsigned char* A(int stage) const { return shared_ + stage * T::kStageBytes; }
  __device__ __forceinline__ unsigned char* B(int stage) const { return A(stage) + T::kParts * T::kAPartBytes; }
  __device__ __forceinline__ uint32_t full(int stage) const { return ptx::SharedAddress(barriers() + stage); }
  __device__ __forceinline__ uint32_t empty(int stage) const {
    return ptx::SharedAddress(barriers() + T::kStages + stage);
  }
  // Of kTf32x3: whether there are numbers in the stage that are not finite.
  __device__ __forceinline__ volatile int* flag(int stage) const {
    return reinterpret_cast<volatile int*>(barriers() + 2 * T::kStages) + stage;
  }
  __device__ __forceinline__ volatile int* kernel_flag() const { return flag(T::kStages); }

  __device__ __forceinline__ void Init() const {
    for (int stage = 0; stage < T::kStages; ++stage) {
      ptx::InitBarrier(full(stage), T::kProducerWarps + 1);
      ptx::InitBarrier(empty(stage), 4 * T::kConsumers);
    }
    for (int stage = 0; stage <= T::kStages; ++stage) *flag(stage) = 0;
    ptx::FenceBarrierInit();
  }

 private:
  __device__ __forceinline__ uint64_t* barriers() const {
    return reinterpret_cast<uint64_t*>(shared_ + T::kStages * T::kStageBytes);
  }
  unsigned char* shared_;
};

// Which stage is next, and the parity of the phase of its barrier that ends when the stage is full.
template <int kStages>
struct Turn {
  int stage = 0, parity = 0;
  __device__ __forceinline__ void Advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// What a block computes at a time.
struct Work {
  int group, first_output, end_output;  // outputs among all
  int output_tile;
  int64_t first_pixel;
  int first_chunk, end_chunk;
};

template <typename T, typename S>
__device__ __forceinline__ Work LocateWork(const Arguments<S>& arguments, int tile) {
  const int output_tile = tile % arguments.output_tiles;
  const int split = T::kSplits > 1 ? ptx::ClusterRank() : 0;
  const int group = output_tile / arguments.tiles_per_group;
  const int first_output =
      group * arguments.sizes.group_outputs + output_tile % arguments.tiles_per_group * T::kColumns;
  return {group,
          first_output,
          min(first_output + T::kColumns, (group + 1) * arguments.sizes.group_outputs),
          output_tile,
          int64_t{tile / arguments.output_tiles} * T::kRows,
          arguments.chunks * split / T::kSplits,
          arguments.chunks * (split + 1) / T::kSplits};
}

// Calls visit(work) for the tiles of this block in their order.
template <typename T, typename S, typename Visit>
__device__ __forceinline__ void ForEachWork(const Arguments<S>& arguments, Visit visit) {
  if constexpr (T::kSplits > 1) {
    visit(LocateWork<T>(arguments, blockIdx.x / T::kSplits));
  } else {
#pragma unroll 1
    for (int tile = blockIdx.x; tile < arguments.tiles; tile += gridDim.x) visit(LocateWork<T>(arguments, tile));
  }
}

// Fills the ring: all threads gather, and one of them starts the copies of the kernel's tiles.
template <typename T, typename S>
class Producer {
 public:
  __device__ __forceinline__ Producer(const Arguments<S>& arguments, const Ring<T>& ring, const Plans<T>& plans)
      : arguments_(arguments),
        ring_(ring),
        plans_(plans),
        thread_(static_cast<int>(threadIdx.x) - T::kConsumerThreads),
        stride_(arguments.sizes.channels * sizeof(S)),
        row_stride_(static_cast<uint32_t>(arguments.shape.in_width) * stride_) {}

  // All threads of the first warp.
  __device__ __forceinline__ void WaitForKernel() const {
    ptx::WaitForEarlierKernel();
    if constexpr (T::kMath == TileMath::kTf32x3) {
      const int lane = threadIdx.x % 32;
      const int flags =
          arguments_.output_tiles * arguments_.chunks * arguments_.sizes.taps * (T::kColumns / kPackedRows);
      int not_finite = 0;
      for (int i = lane; i < flags; i += 32) not_finite |= arguments_.packed_flags[i];
      if (__any_sync(0xffffffffu, not_finite) && lane == 0) *ring_.kernel_flag() = 1;
    }
  }

  __device__ __forceinline__ void Run(const Work& work) {
    packed_step_ = (work.output_tile * arguments_.chunks + work.first_chunk) * arguments_.sizes.taps;
    const int first_channel = work.group * arguments_.sizes.group_channels;
    const auto deformable_group = [&](int chunk) {
      return (first_channel + chunk * T::kDepth) / arguments_.sizes.deformable_group_channels;
    };
    // Channels of one deformable group after the other.
    int chunk = work.first_chunk;
    do {
      const int group = deformable_group(chunk);
      PlanSamples(work.first_pixel, group);
      int end_chunk = chunk;
      do {
        ++end_chunk;
      } while (end_chunk < work.end_chunk && deformable_group(end_chunk) == group);
      Gather(first_channel + chunk * T::kDepth, end_chunk - chunk);
      chunk = end_chunk;
    } while (chunk < work.end_chunk);
  }

 private:
  static constexpr int kProducerBarrier = 1;
  static constexpr int kPixelsAtOnce = T::kProducerThreads / kVectorsOfRow;
  static constexpr int kPieces = T::kRows / kPixelsAtOnce;
  static_assert(T::kRows % kPixelsAtOnce == 0 && kPixelsAtOnce % 8 == 0, "rows alike but for their number");

  struct Piece {
    Vector<S> corners[4];
    int plan;
  };

  // Of all taps of the tile's pixels. Corners are numbered among all pixels of x.
  __device__ __forceinline__ void PlanSamples(int64_t first_pixel, int deformable_group) const {
    ptx::SynchronizeThreads(kProducerBarrier, T::kProducerThreads);
    const OutputPixel pixel = arguments_.strips.Locate(arguments_.shape, first_pixel + thread_ % T::kRows);
#pragma unroll 1
    for (int tap = thread_ / T::kRows; tap < arguments_.sizes.taps; tap += T::kProducerThreads / T::kRows) {
      const SampleInput<float> input = ReadSampleInput(arguments_.shape, pixel, deformable_group, tap,
                                                       arguments_.inputs.offset, arguments_.inputs.mask);
      const PlannedSample<float> plan = PlanSample(arguments_.shape, pixel, tap, input);
      const bool absent = IsAbsent(plan.corner[0]);
      uint32_t corners = absent ? Plans<T>::kAbsent : static_cast<uint32_t>(pixel.image_begin + plan.corner[0]);
      if (!absent && plan.corner[1] != plan.corner[0]) corners |= Plans<T>::kColumnStep;
      if (!absent && plan.corner[2] != plan.corner[0]) corners |= Plans<T>::kRowStep;
      const int index = tap * T::kRows + thread_ % T::kRows;
      plans_.corners(index) = corners;
      plans_.weights(index) = {{plan.weight[0], plan.weight[1], plan.weight[2], plan.weight[3]}};
    }
    ptx::SynchronizeThreads(kProducerBarrier, T::kProducerThreads);
  }

  // All taps of a chunk of channels come before the next chunk: what they sample overlaps, and as much as this of it
  // stays in the first-level cache.
  __device__ __forceinline__ void Gather(int first_channel, int chunks) {
    Position next(*this, first_channel);
    Piece pieces[kPieces];
    Read(&next, &pieces);
    if (!kernel_is_packed_) {
      kernel_is_packed_ = true;
      if (thread_ < 32) WaitForKernel();
    }
#pragma unroll 1
    for (int steps = chunks * arguments_.sizes.taps; steps > 0; --steps) {
      ptx::WaitForBarrier(ring_.empty(turn_.stage), turn_.parity ^ 1);
      if (thread_ == 0) StartCopy(turn_.stage);
      float nothing = 0;
#pragma unroll
      for (int i = 0; i < kPieces; ++i) Write(pieces[i], i, ring_.A(turn_.stage), &nothing);
      if constexpr (T::kMath == TileMath::kTf32x3) {
        if (!(nothing == 0)) *ring_.flag(turn_.stage) = 1;
      }
      ptx::FenceForAsync();
      __syncwarp();
      if (thread_ % 32 == 0) ptx::ArriveAtBarrier(ring_.full(turn_.stage));
      turn_.Advance();
      if (steps > 1) Read(&next, &pieces);
    }
  }

  __device__ __forceinline__ void StartCopy(int stage) {
    ptx::ArriveAndExpectBytes(ring_.full(stage), T::kBBytes);
    ptx::CopyBulk(ptx::SharedAddress(ring_.B(stage)), arguments_.packed + int64_t{packed_step_++} * T::kBBytes,
                  T::kBBytes, ring_.full(stage));
  }

  __device__ __forceinline__ int RowOf(int piece) const { return piece * kPixelsAtOnce + thread_ / kVectorsOfRow; }

  // What is read next.
  struct Position {
    const char* channels;  // of the first pixel of x
    int tap;
    int plan;

    __device__ __forceinline__ Position(const Producer& producer, int first_channel)
        : channels(reinterpret_cast<const char*>(producer.arguments_.inputs.x + first_channel +
                                                 producer.thread_ % kVectorsOfRow * T::kVector)),
          tap(0),
          plan(producer.RowOf(0)) {}
    __device__ __forceinline__ void Advance(int taps) {
      plan += T::kRows;
      if (++tap < taps) return;
      plan -= tap * T::kRows;
      tap = 0;
      channels += kRowBytes;
    }
  };

  __device__ __forceinline__ void Read(Position* position, Piece (*pieces)[kPieces]) const {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      ReadPiece(position->channels, position->plan + i * kPixelsAtOnce, &(*pieces)[i]);
    }
    position->Advance(arguments_.sizes.taps);
  }

  // The product of two numbers of 32 bits and the sum of 64 are one instruction.
  __device__ __forceinline__ void ReadPiece(const char* channels, int plan, Piece* piece) const {
    const uint32_t corners = plans_.corners(plan);
    piece->plan = plan;
    const char* corner = channels + uint64_t{corners & (Plans<T>::kColumnStep - 1)} * stride_;
    const uint32_t column_step = corners & Plans<T>::kColumnStep ? stride_ : 0;
    const char* lower = corner + uint64_t{corners & Plans<T>::kRowStep ? row_stride_ : 0};
    piece->corners[0] = ReadVector(corner);
    piece->corners[1] = ReadVector(corner + uint64_t{column_step});
    piece->corners[2] = ReadVector(lower);
    piece->corners[3] = ReadVector(lower + uint64_t{column_step});
  }
  static __device__ __forceinline__ Vector<S> ReadVector(const char* address) {
    return Vector<S>::Load(reinterpret_cast<const S*>(address));
  }

  __device__ __forceinline__ void Write(const Piece& piece, int i, unsigned char* tile, float* nothing) const {
    const TileQuad<float> quad = plans_.weights(piece.plan);
    const float* weights = quad.values;
    const bool absent = (plans_.corners(piece.plan) & Plans<T>::kAbsent) != 0;
    float values[T::kVector];
#pragma unroll
    for (int c = 0; c < T::kVector; ++c) {
      values[c] = weights[0] * piece.corners[0][c] + weights[1] * piece.corners[1][c] +
                  weights[2] * piece.corners[2][c] + weights[3] * piece.corners[3][c];
    }
    unsigned char* target = tile + OffsetOfVector(RowOf(i), thread_ % kVectorsOfRow);
    StoreVector<T::kMath, S>(values, !absent, target, T::kAPartBytes, nothing);
  }

  const Arguments<S>& arguments_;
  const Ring<T> ring_;
  const Plans<T> plans_;
  Turn<T::kStages> turn_;
  int packed_step_ = 0;
  bool kernel_is_packed_ = false;
  const int thread_;
  const uint32_t stride_, row_stride_;
};

template <typename T>
class Consumer {
 public:
  using Element = typename T::Element;

  __device__ __forceinline__ explicit Consumer(const Ring<T>& ring) : ring_(ring) {}

  __device__ __forceinline__ void Multiply(int steps) {
    int unreleased = 0;
#pragma unroll 1
    for (int i = 0; i < steps; ++i) {
      ptx::WaitForBarrier(ring_.full(turn_.stage), turn_.parity);
      const uint64_t a =
          ptx::SwizzledMatrix(ptx::SharedAddress(ring_.A(turn_.stage)) + Warpgroup() * T::kRowBlocks * 64 * kRowBytes);
      const uint64_t b = ptx::SwizzledMatrix(ptx::SharedAddress(ring_.B(turn_.stage)));
      if constexpr (T::kMath == TileMath::kTf32x3) {
        constexpr int kALow = T::kAPartBytes / 16, kBLow = T::kBPartBytes / 16;
        if (__any_sync(0xffffffffu, *ring_.flag(turn_.stage) | *ring_.kernel_flag())) {
          // An infinite number has no rest, and is left out where it would be multiplied with the other factor's rest,
          // whose sign may be the other one.
          ptx::BeginProducts();
          MultiplyStage(a, b, i > 0);
          ptx::CommitProducts();
          ptx::WaitForProducts<0>();
          LeaveOutInfinities(turn_.stage);
          ptx::BeginProducts();
          MultiplyStage(a + kALow, b, 1);
          MultiplyStage(a, b + kBLow, 1);
        } else {
          // Small terms first.
          ptx::BeginProducts();
          MultiplyStage(a + kALow, b, i > 0);
          MultiplyStage(a, b + kBLow, 1);
          MultiplyStage(a, b, 1);
        }
      } else {
        ptx::BeginProducts();
        MultiplyStage(a, b, i > 0);
      }
      ptx::CommitProducts();
      if constexpr (kReleasesAtOnce) {
        ptx::WaitForProducts<0>();
        Release(turn_.stage);
      } else {
        if (i > 0) {
          ptx::WaitForProducts<1>();
          Release(unreleased);
        }
        unreleased = turn_.stage;
      }
      turn_.Advance();
    }
    if constexpr (!kReleasesAtOnce) {
      ptx::WaitForProducts<0>();
      Release(unreleased);
    }
  }

  // The partner's part of every sum is added to the half that stays here.
  __device__ __forceinline__ void AddOtherSplit(unsigned char* shared) {
    static_assert(T::kSplits == 2);
    const int rank = ptx::ClusterRank();
    constexpr int kHalf = T::kAllSums / 2;
    constexpr int kStride = T::kConsumerThreads * 16;
    const uint32_t own = ptx::SharedAddress(shared) + threadIdx.x * 16;
    ptx::SynchronizeCluster();
#pragma unroll
    for (int i = 0; i < kHalf; i += 4) {
      float sent[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) sent[e] = rank == 0 ? Sum(kHalf + i + e) : Sum(i + e);
      ptx::StoreToBlock(1 - rank, own + i / 4 * kStride, make_float4(sent[0], sent[1], sent[2], sent[3]));
    }
    ptx::SynchronizeCluster();
#pragma unroll
    for (int i = 0; i < kHalf; i += 4) {
      const float4 got = *reinterpret_cast<const float4*>(shared + threadIdx.x * 16 + i / 4 * kStride);
      const float received[4] = {got.x, got.y, got.z, got.w};
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        Sum(i + e) += received[e];
        Sum(kHalf + i + e) += received[e];
      }
    }
  }

  template <typename S>
  __device__ __forceinline__ void Store(const Arguments<S>& arguments, const Work& work) const {
    const int lane = threadIdx.x % 32;
    const int first_row = threadIdx.x / 128 * 64 * T::kRowBlocks + threadIdx.x % 128 / 32 * 16 + lane / 4;
    const int rank = T::kSplits > 1 ? ptx::ClusterRank() : 0;
#pragma unroll
    for (int half = 0; half < 2 * T::kRowBlocks; ++half) {
      const int row = first_row + half / 2 * 64 + half % 2 * 8;
      const int64_t pixel = arguments.strips.Locate(arguments.shape, work.first_pixel + row).index;
      if (pixel < 0) continue;
      S* to = arguments.y + pixel * arguments.sizes.outputs;
#pragma unroll
      for (int j = 0; j < T::kColumns / 8; ++j) {
        const int output = work.first_output + 8 * j + lane % 4 * 2;
        const int block = half / 2 * T::kColumnBlocks + j / (T::kProductColumns / 8);
        const int sum = block * T::kSums + j % (T::kProductColumns / 8) * 4;
        const bool is_here = T::kSplits == 1 || rank == sum / (T::kAllSums / 2);
        if (is_here && output < work.end_output) {
          Vector<S, 2>::Store({Sum(sum + half % 2 * 2), Sum(sum + half % 2 * 2 + 1)}, to + output);
        }
      }
    }
  }

 private:
  static constexpr int kConsumerBarrier = 2;
  // With two stages the next one may wait for this one.
  static constexpr bool kReleasesAtOnce = T::kStages == 2;

  static __device__ __forceinline__ int Warpgroup() {
    return T::kConsumers == 1 ? 0 : __shfl_sync(0xffffffffu, threadIdx.x / 128, 0);
  }

  __device__ __forceinline__ void MultiplyStage(uint64_t a, uint64_t b, int adds) {
#pragma unroll
    for (int k = 0; k < kRowBytes / 32; ++k) {
#pragma unroll
      for (int row = 0; row < T::kRowBlocks; ++row) {
#pragma unroll
        for (int column = 0; column < T::kColumnBlocks; ++column) {
          ptx::StartProduct<Element>(
              sums_[row * T::kColumnBlocks + column], ptx::StepOfMatrix(a + row * 64 * kRowBytes / 16, k),
              ptx::StepOfMatrix(b + column * T::kProductColumns * kRowBytes / 16, k), k > 0 ? 1 : adds);
        }
      }
    }
  }

  __device__ __forceinline__ void Release(int stage) const {
    if (threadIdx.x % 32 != 0) return;
    ptx::ArriveAtBarrier(ring_.empty(stage));
  }

  __device__ __forceinline__ void LeaveOutInfinities(int stage) const {
    ptx::SynchronizeThreads(kConsumerBarrier, T::kConsumerThreads);
    const auto leave_out = [](unsigned char* tile, int part_bytes) {
      for (int i = threadIdx.x * 4; i < part_bytes; i += T::kConsumerThreads * 4) {
        float* high = reinterpret_cast<float*>(tile + i);
        if (fabsf(*high) == INFINITY) {
          *high = 0;
          *reinterpret_cast<float*>(tile + part_bytes + i) = 0;
        }
      }
    };
    leave_out(ring_.A(stage), T::kAPartBytes);
    leave_out(ring_.B(stage), T::kBPartBytes);
    if (threadIdx.x == 0) *ring_.flag(stage) = 0;
    ptx::FenceForAsync();
    ptx::SynchronizeThreads(kConsumerBarrier, T::kConsumerThreads);
  }

  const Ring<T> ring_;
  Turn<T::kStages> turn_;
  // The i-th of all, by an unrolled index.
  __device__ __forceinline__ float& Sum(int i) { return sums_[i / T::kSums][i % T::kSums]; }
  __device__ __forceinline__ float Sum(int i) const { return sums_[i / T::kSums][i % T::kSums]; }

  float sums_[T::kRowBlocks * T::kColumnBlocks][T::kSums];
};

template <int kFrom, int kTo>
__device__ __forceinline__ void LimitRegisters() {
  if constexpr (kTo > kFrom) ptx::GrowRegisters<kTo>();
  if constexpr (kTo < kFrom) ptx::ShrinkRegisters<kTo>();
}

template <typename T>
__device__ __forceinline__ void SynchronizeBlocks() {
  if constexpr (T::kSplits > 1) {
    ptx::SynchronizeCluster();
  } else {
    __syncthreads();
  }
}

template <typename T, typename S>
__global__ void __launch_bounds__(T::kThreads, 1) ForwardKernel(const __grid_constant__ Arguments<S> arguments) {
#if defined(DCNV2_HOPPER_CODE)
  extern __shared__ __align__(1024) unsigned char shared_memory[];
  unsigned char* const shared = shared_memory;
  const Ring<T> ring(shared);
  if (threadIdx.x == 0) ring.Init();
  SynchronizeBlocks<T>();
  if (threadIdx.x < T::kConsumerThreads) {
    LimitRegisters<T::kRegisters, T::kConsumerRegisters>();
    Consumer<T> consumer(ring);
    ForEachWork<T>(arguments, [&](const Work& work) {
      consumer.Multiply((work.end_chunk - work.first_chunk) * arguments.sizes.taps);
      if constexpr (T::kSplits > 1) consumer.AddOtherSplit(shared);
      consumer.Store(arguments, work);
    });
  } else {
    LimitRegisters<T::kRegisters, T::kProducerRegisters>();
    Producer<T, S> producer(arguments, ring, Plans<T>(shared + T::kPlansOffset, arguments.sizes.taps));
    ForEachWork<T>(arguments, [&](const Work& work) { producer.Run(work); });
    if constexpr (T::kSplits > 1) {
      // As in AddOtherSplit.
      ptx::SynchronizeCluster();
      ptx::SynchronizeCluster();
    }
  }
#endif
}

// --- The host's side ---

// Whether this library has the kernels' machine code for the device.
inline bool HasCode(const GpuDevice& device) {
  if (device.capability != 90) return false;
  // Code that the driver compiled of another architecture's PTX has no such instructions.
  static const bool has_code = [] {
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, PackKernel<float, TileMath::kTf32, 128>) == cudaSuccess &&
           attributes.ptxVersion == 90;
  }();
  return has_code;
}

// How a kernel is packed for a tiling.
template <typename T>
struct PackedKernel {
  int64_t tiles_per_group, output_tiles, chunks;
  int64_t steps;  // tiles of the kernel

  explicit PackedKernel(const DeformConv2DShape& shape)
      : tiles_per_group(CeilDiv(shape.group_out_channels(), T::kColumns)),
        output_tiles(tiles_per_group * shape.groups),
        chunks(shape.group_in_channels() / T::kDepth),
        steps(output_tiles * chunks * shape.taps()) {}

  int64_t parts() const { return steps * (T::kColumns / kPackedRows); }
  int64_t bytes() const { return steps * T::kBBytes + (T::kMath == TileMath::kTf32x3 ? parts() * sizeof(int) : 0); }
};

template <typename T>
int64_t PixelTiles(const DeformConv2DShape& shape) {
  return CeilDiv(shape.batch * shape.out_pixels(), T::kRows);
}

// Whether a tiling serves a problem: rows of tiles are whole, plans fit beside the ring, and counts have enough bits.
template <typename T>
bool Suits(const GpuDevice& device, const DeformConv2DShape& shape) {
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  const PackedKernel<T> packed(shape);
  return HasCode(device) && shape.group_in_channels() % T::kDepth == 0 &&
         shape.deformable_group_channels() % T::kDepth == 0 && packed.chunks >= T::kSplits &&
         shape.taps() <= device.shared_memory_per_block &&
         T::SharedBytes(static_cast<int>(shape.taps())) <= device.shared_memory_per_block &&
         shape.batch * shape.in_height * shape.in_width <= Plans<T>::kColumnStep &&
         shape.in_width * shape.in_channels * int64_t{sizeof(typename T::Element)} <= kMax && packed.parts() <= kMax &&
         PixelTiles<T>(shape) * packed.output_tiles * T::kSplits <= kMax;
}

// `workspace` has as many bytes as the packed kernel.
template <typename T, typename S>
cudaError_t Launch(const GpuDevice& device, Arguments<S> arguments, void* workspace, cudaStream_t stream) {
  const DeformConv2DShape& shape = arguments.shape;
  const PackedKernel<T> packed(shape);
  arguments.tiles_per_group = static_cast<int>(packed.tiles_per_group);
  arguments.output_tiles = static_cast<int>(packed.output_tiles);
  arguments.chunks = static_cast<int>(packed.chunks);
  arguments.tiles = static_cast<int>(PixelTiles<T>(shape) * packed.output_tiles);
  arguments.packed = static_cast<unsigned char*>(workspace);
  arguments.packed_flags = reinterpret_cast<int*>(arguments.packed + packed.steps * T::kBBytes);
  if (const cudaError_t error = LaunchKernel(PackKernel<S, T::kMath, T::kColumns>, packed.parts(), kPackThreads,
                                             T::kDepth * (kPackedRows + 1) * int{sizeof(float)}, stream, arguments)) {
    return error;
  }
  const auto kernel = ForwardKernel<T, S>;
  const int shared_bytes = T::SharedBytes(arguments.sizes.taps);
  // What the ring and the plans leave is first-level cache.
  const int64_t carveout = CeilDiv((shared_bytes + 1024) * int64_t{100}, device.shared_memory_per_multiprocessor);
  const struct {
    cudaFuncAttribute attribute;
    int value;
  } settings[] = {{cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes},
                  {cudaFuncAttributePreferredSharedMemoryCarveout, static_cast<int>(std::min<int64_t>(carveout, 100))}};
  for (const auto& setting : settings) {
    if (const cudaError_t error = cudaFuncSetAttribute(kernel, setting.attribute, setting.value)) return error;
  }
  // It begins while the kernel is packed, and waits for that before it multiplies.
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = T::kSplits;
  attributes[1].val.clusterDim.y = 1;
  attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  const int blocks = T::kSplits > 1 ? arguments.tiles * T::kSplits : std::min(arguments.tiles, device.multiprocessors);
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(T::kThreads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = 2;
  return cudaLaunchKernelEx(&config, kernel, arguments);
}

}  // namespace hopper
}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_CONV_DEFORM_CONV2D_FORWARD_HOPPER_CUH_
