// Matrix products by the dot products of AVX512-BF16; compiled with the flags that allow its instructions.
#if defined(__x86_64__)
#include "cc/lib/cpu/simd/avx512_bf16-inl.h"
#include "cc/lib/cpu/simd/dot_block-inl.h"

namespace dcnv2 {
namespace {

struct Avx512Bf16 : Avx512Bf16Rounding {
  static constexpr char kName[] = "avx512_bf16";

  struct InUse {};

  static DCNV2_INLINE void Add(const BFloat16* pair, const BFloat16* pairs, UnitFloats* sums) {
    int32_t bits;
    __builtin_memcpy(&bits, pair, sizeof(bits));
    *sums = (UnitFloats)_mm512_dpbf16_ps((__m512)*sums, (__m512bh)_mm512_set1_epi32(bits),
                                         (__m512bh)_mm512_loadu_si512(pairs));
  }
  static DCNV2_INLINE void MultiplyBlock(int64_t depth, const BFloat16* a, const BFloat16* b, float* c,
                                         int64_t c_stride, bool accumulate) {
    MultiplyDotBlock<Avx512Bf16>(depth, a, b, c, c_stride, accumulate);
  }
};

}  // namespace

const MatrixUnits kAvx512Bf16Units = MakeMatrixUnits<Avx512Bf16>();

}  // namespace dcnv2
#endif
