// The loop of the passes that multiply the column matrix: tiles of it are gathered, and tiles of the other factor are
// copied, while the tiles before are multiplied.
//
// Columns are gathered again for every tile of outputs, so tiles are as wide in outputs as registers allow. What should
// bound a pass on a device of compute capability 9.0, in cycles per 128 x 256 sums and 16 numbers of 16 bits (or 8 of
// TF32) along the depth, as counted; on an H100 it takes 2 to 3 times as long, because two warps for each scheduler do
// not hide how long samples and operands are on their way:
//
//                                              one tile of 128 x 256    two tiles of 128 x 128
//   first-level cache and shared memory, which are one device
//     reading operands                                  256                       384
//     writing them                                       96                       128
//     gathering: four bytes per byte written            128                       256
//   matrix units, by mma.sync                           400                       400
//   issuing instructions, most of them to widen,        400                       800
//     interpolate and narrow
//
// They overlap as far as warps are at different places in the loop. The second-level cache is no bound as long as
// neighbouring pixels sample neighbouring places: see PixelStrips and the slabs of the forward pass.
#ifndef DCNV2_CC_LIB_GPU_CONV_COLUMN_PRODUCT_CUH_
#define DCNV2_CC_LIB_GPU_CONV_COLUMN_PRODUCT_CUH_

#include "cc/lib/gpu/conv/column_gather.cuh"

namespace dcnv2 {

// Row major A: pixels x channels, as the forward pass multiplies. Column major A: channels x pixels, as the kernel's
// gradient does; in memory both are rows of channels. B is row major. kVector is the number of elements that are read
// and copied together: as many as 16 bytes hold, or one. Gathering a tile takes kRounds rounds, each of which reads
// its pieces before a part of the product and writes them after it. Pixels are planned kPlannedPixels at once, by as
// many threads: those of one tile or of several that follow each other.
template <typename S, TileMath kMath, int kRows, int kColumns, int kDepth, int kThreads, TileLayout kALayout,
          int kVector, int kRounds, int kPlannedPixels>
struct ColumnProduct {
  using T = Compute<S>;
  using Element = TileElement<S, kMath>;
  using Product = TileProduct<kMath, Element, kRows, kColumns, kDepth, kThreads, kALayout, TileLayout::kRowMajor, true>;
  static constexpr bool kPixelsAreRows = kALayout == TileLayout::kRowMajor;
  static constexpr int kPixels = kPixelsAreRows ? kRows : kDepth;
  static constexpr int kChannels = kPixelsAreRows ? kDepth : kRows;
  using Gather = ColumnGather<S, kMath, kPixels, kChannels, Product::kAStride, kThreads, kVector>;
  using Plan = GatherPlan<S>;
  static constexpr int kTileColumns = kColumns;
  static constexpr int kPlannedPixelsAtOnce = kPlannedPixels;
  static_assert(kPlannedPixels <= kThreads && kPlannedPixels % kPixels == 0, "pixels have threads, and tiles plans");
  static_assert(Product::kSteps % kRounds == 0 && Gather::kPieces % kRounds == 0, "rounds are alike");

  // Of shared memory: a ring of slots for the plans of a tile each, one more than are planned at once, because the last
  // one before is still in use; then left and right tiles, both twice.
  static constexpr int kPlanSlots = kPlannedPixels / kPixels + 1;
  static constexpr int kPlanBytes = kPlanSlots * kPixels * sizeof(Plan);
  static constexpr int kSharedBytes = kPlanBytes + 2 * (Product::kABytes + Product::kBBytes);

  static __device__ __forceinline__ int NextSlot(int slot) { return slot + 1 == kPlanSlots ? 0 : slot + 1; }
  static __device__ __forceinline__ Plan* Plans(unsigned char* shared, int slot) {
    return reinterpret_cast<Plan*>(shared) + slot * kPixels;
  }
  static __device__ __forceinline__ Element* A(unsigned char* shared, int buffer) {
    return reinterpret_cast<Element*>(shared + kPlanBytes + buffer * Product::kABytes);
  }
  static __device__ __forceinline__ Element* B(unsigned char* shared, int buffer) {
    return reinterpret_cast<Element*>(shared + kPlanBytes + 2 * Product::kABytes + buffer * Product::kBBytes);
  }

  // Adds up the products of all chunks of the depth that `source` knows; there is one at least. It has
  //   Chunk                       with channel, count (of the columns) and plan_slot
  //   First(), Advance(&chunk)    chunks in their order
  //   IsEnd(chunk)                the one after the last
  //   NeedsPlan(chunk)            whether planning begins with its pixels: they have plans neither of their own nor of
  //                               an earlier chunk
  //   ReadInput(chunk)            this thread's share of offset and mask: the pixel is the chunk's first one and
  //                               threadIdx.x < kPlannedPixels
  //   MakePlan(chunk, input)
  //   CopyB(chunk, plans, tile)   starts to copy the right tile, all of it: zeros where nothing is
  template <typename Source>
  static __device__ __forceinline__ void Accumulate(const Source& source, unsigned char* shared, Product* product) {
    using Chunk = typename Source::Chunk;
    const bool plans = threadIdx.x < kPlannedPixels;
    const auto make_plan = [&](const Chunk& chunk, const SampleInput<T>& input) {
      int plan = chunk.plan_slot * kPixels + static_cast<int>(threadIdx.x);
      if (kPlannedPixels > kPixels && plan >= kPlanSlots * kPixels) plan -= kPlanSlots * kPixels;
      Plans(shared, 0)[plan] = source.MakePlan(chunk, input);
    };
    const int channels = source.channels();

    // Chunks are planned two ahead of their product and gathered one ahead.
    Chunk gathered = source.First();
    Chunk planned = gathered;
    source.Advance(&planned);
    if (plans) {
      make_plan(gathered, source.ReadInput(gathered));
      if (!source.IsEnd(planned) && source.NeedsPlan(planned)) make_plan(planned, source.ReadInput(planned));
    }
    __syncthreads();
    source.CopyB(gathered, Plans(shared, gathered.plan_slot), B(shared, 0));
    ptx::CopyAsyncCommit();
#pragma unroll
    for (int piece = 0; piece < Gather::kPieces; ++piece) {
      typename Gather::Piece read;
      const Plan* plan = Plans(shared, gathered.plan_slot);
      Gather::Read(Gather::Locate(plan, gathered.channel, gathered.count, piece), channels, &read);
      Gather::Write(plan, piece, read, A(shared, 0));
    }
    ptx::CopyAsyncWait<0>();
    __syncthreads();

    int buffer = 0;
    while (!source.IsEnd(planned)) {
      gathered = planned;
      source.Advance(&planned);
      const Plan* plan = Plans(shared, gathered.plan_slot);
      source.CopyB(gathered, plan, B(shared, 1 - buffer));
      ptx::CopyAsyncCommit();
      const bool plans_now = plans && !source.IsEnd(planned) && source.NeedsPlan(planned);
      SampleInput<T> input = {};
      if (plans_now) input = source.ReadInput(planned);
      constexpr int kPiecesOfRound = Gather::kPieces / kRounds, kStepsOfRound = Product::kSteps / kRounds;
      typename Gather::Source sources[kPiecesOfRound];
      const auto locate_round = [&](int round) {
#pragma unroll
        for (int i = 0; i < kPiecesOfRound; ++i) {
          sources[i] = Gather::Locate(plan, gathered.channel, gathered.count, round * kPiecesOfRound + i);
        }
      };
      locate_round(0);
#pragma unroll 1
      for (int round = 0; round < kRounds; ++round) {
        typename Gather::Piece read[kPiecesOfRound];
#pragma unroll
        for (int i = 0; i < kPiecesOfRound; ++i) Gather::Read(sources[i], channels, &read[i]);
#pragma unroll
        for (int i = 0; i < kStepsOfRound; ++i) {
          product->AccumulateStep(A(shared, buffer), B(shared, buffer), round * kStepsOfRound + i);
        }
#pragma unroll
        for (int i = 0; i < kPiecesOfRound; ++i) {
          Gather::Write(plan, round * kPiecesOfRound + i, read[i], A(shared, 1 - buffer));
        }
        // After the last round this is of no use, and no harm.
        locate_round((round + 1) % kRounds);
      }
      if (plans_now) make_plan(planned, input);
      ptx::CopyAsyncWait<0>();
      __syncthreads();
      buffer = 1 - buffer;
    }
    product->Accumulate(A(shared, buffer), B(shared, buffer));
  }

  // The calling thread copies kVector elements of the right tile from this column on, of this row and of every
  // kCopiedRows-th after it.
  static constexpr int kCopiesOfRow = kColumns / kVector;
  static constexpr int kCopiedRows = kThreads / kCopiesOfRow;
  static __device__ __forceinline__ int CopiedColumn() { return threadIdx.x % kCopiesOfRow * kVector; }
  static __device__ __forceinline__ int CopiedRow() { return threadIdx.x / kCopiesOfRow; }

  // Fills the right tile. next(row, &address) is called for the thread's rows in turn: whether the elements exist, and
  // where they are in that case.
  template <typename Next>
  static __device__ __forceinline__ void CopyRows(Next next, Element* tile) {
    static_assert(kThreads % kCopiesOfRow == 0 && kDepth % kCopiedRows == 0, "all threads copy alike");
    int row = CopiedRow();
    Element* target = tile + row * Product::kBStride + CopiedColumn();
#pragma unroll
    for (int i = 0; i < kDepth / kCopiedRows; ++i) {
      const S* address;
      const bool exists = next(row, &address);
      if constexpr (kVector > 1) {
        ptx::CopyAsync16(target, address, exists);
      } else {
        *target = exists ? Vector<S, 1>::Load(address)[0] : T(0);
      }
      row += kCopiedRows;
      target += kCopiedRows * Product::kBStride;
    }
  }
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_CONV_COLUMN_PRODUCT_CUH_
