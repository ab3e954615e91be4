// Matrix products on units that are emulated, element by element in the order of the real ones: what the loops around
// them do can be tested on every processor. They differ in that the real ones take numbers below 2^-126 for zero.
#include "cc/lib/cpu/simd/amx_block-inl.h"
#include "cc/lib/cpu/simd/dot_block-inl.h"

namespace dcnv2 {
namespace {

constexpr int kTileRows = 16, kTileFloats = 16;

struct Tile {
  float rows[kTileRows][kTileFloats];
};

// Of this thread, as registers are.
Tile& TileOf(int index) {
  static thread_local Tile tiles[8];
  return tiles[index];
}

// Both numbers of the pair whose bits a tile's element has.
struct Pair {
  explicit Pair(float element) : even(FloatOf(BitsOf(element) << 16)), odd(FloatOf(BitsOf(element) & 0xffff0000u)) {}
  float even, odd;
};

struct EmulatedTiles {
  template <int kTile>
  static void Clear() {
    TileOf(kTile) = {};
  }
  template <int kTile>
  static void Load(const void* rows, int64_t stride) {
    for (int row = 0; row < kTileRows; ++row) {
      __builtin_memcpy(TileOf(kTile).rows[row], static_cast<const char*>(rows) + row * stride,
                       sizeof(TileOf(kTile).rows[row]));
    }
  }
  template <int kTile>
  static void Store(void* rows, int64_t stride) {
    for (int row = 0; row < kTileRows; ++row) {
      __builtin_memcpy(static_cast<char*>(rows) + row * stride, TileOf(kTile).rows[row],
                       sizeof(TileOf(kTile).rows[row]));
    }
  }
  // Even and odd elements have sums of their own.
  template <int kSum, int kLeft, int kRight>
  static void AddProduct() {
    for (int row = 0; row < kTileRows; ++row) {
      float even[kTileFloats] = {}, odd[kTileFloats] = {};
      for (int k = 0; k < kTileRows; ++k) {
        const Pair left(TileOf(kLeft).rows[row][k]);
        for (int column = 0; column < kTileFloats; ++column) {
          const Pair right(TileOf(kRight).rows[k][column]);
          even[column] += left.even * right.even;
          odd[column] += left.odd * right.odd;
        }
      }
      for (int column = 0; column < kTileFloats; ++column) {
        TileOf(kSum).rows[row][column] += even[column] + odd[column];
      }
    }
  }
};

struct Emulated {
  struct InUse {};

  static DCNV2_INLINE void StoreRounded(const UnitFloats& low, const UnitFloats& high, BFloat16* out) {
    for (int i = 0; i < kTileFloats; ++i) {
      out[i] = Narrow<BFloat16>(low[i]);
      out[kTileFloats + i] = Narrow<BFloat16>(high[i]);
    }
  }
  static DCNV2_INLINE void StorePairs(const UnitFloats& first, const UnitFloats& second, BFloat16* out) {
    for (int i = 0; i < kTileFloats; ++i) {
      out[2 * i] = Narrow<BFloat16>(first[i]);
      out[2 * i + 1] = Narrow<BFloat16>(second[i]);
    }
  }
};

struct EmulatedAmx : Emulated {
  static constexpr char kName[] = "emulated_amx";

  static void MultiplyBlock(int64_t depth, const BFloat16* a, const BFloat16* b, float* c, int64_t c_stride,
                            bool accumulate) {
    MultiplyAmxBlock<EmulatedTiles>(depth, a, b, c, c_stride, accumulate);
  }
};

struct EmulatedAvx512Bf16 : Emulated {
  static constexpr char kName[] = "emulated_avx512_bf16";

  static DCNV2_INLINE void Add(const BFloat16* pair, const BFloat16* pairs, UnitFloats* sums) {
    UnitFloats even, odd;
    LoadPairs(pairs, &even, &odd);
    *sums += Widen(pair[1]) * odd;
    *sums += Widen(pair[0]) * even;
  }
  static void MultiplyBlock(int64_t depth, const BFloat16* a, const BFloat16* b, float* c, int64_t c_stride,
                            bool accumulate) {
    MultiplyDotBlock<EmulatedAvx512Bf16>(depth, a, b, c, c_stride, accumulate);
  }
};

}  // namespace

const MatrixUnits kEmulatedAmxUnits = MakeMatrixUnits<EmulatedAmx>();
const MatrixUnits kEmulatedAvx512Bf16Units = MakeMatrixUnits<EmulatedAvx512Bf16>();

}  // namespace dcnv2
