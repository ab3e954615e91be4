// Matrix products on AMX; compiled with the flags that allow its instructions.
#if defined(__x86_64__)
#include "cc/lib/cpu/simd/amx_block-inl.h"
#include "cc/lib/cpu/simd/avx512_bf16-inl.h"

namespace dcnv2 {
namespace {

// By their mnemonics: compilers' intrinsics take no template parameter for the number of a tile.
struct AmxTiles {
  template <int kTile>
  static DCNV2_INLINE void Clear() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  template <int kTile>
  static DCNV2_INLINE void Load(const void* rows, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(rows), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kTile>
  static DCNV2_INLINE void Store(void* rows, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(rows), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kSum, int kLeft, int kRight>
  static DCNV2_INLINE void AddProduct() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kLeft), "i"(kRight));
  }
};

struct alignas(64) TileConfiguration {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

struct Amx : Avx512Bf16Rounding {
  static constexpr char kName[] = "amx";

  // Threads that have tiles in use carry 8 KiB more from switch to switch: they are given back after every product.
  struct InUse {
    InUse() {
      static constexpr TileConfiguration kConfiguration;
      asm volatile("ldtilecfg %0" : : "m"(kConfiguration));
    }
    ~InUse() { asm volatile("tilerelease"); }
  };

  static DCNV2_INLINE void MultiplyBlock(int64_t depth, const BFloat16* a, const BFloat16* b, float* c,
                                         int64_t c_stride, bool accumulate) {
    MultiplyAmxBlock<AmxTiles>(depth, a, b, c, c_stride, accumulate);
  }
};

}  // namespace

const MatrixUnits kAmxUnits = MakeMatrixUnits<Amx>();

}  // namespace dcnv2
#endif
