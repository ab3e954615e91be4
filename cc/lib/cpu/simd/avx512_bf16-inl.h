// What AVX512-BF16 has for the loops of matrix_units-inl.h.
#ifndef DCNV2_CC_LIB_CPU_SIMD_AVX512_BF16_INL_H_
#define DCNV2_CC_LIB_CPU_SIMD_AVX512_BF16_INL_H_

#include <immintrin.h>

#include "cc/lib/cpu/simd/matrix_units-inl.h"

namespace dcnv2 {
namespace {

// The rounding of both kinds of unit that have it.
struct Avx512Bf16Rounding {
  static DCNV2_INLINE void StoreRounded(const UnitFloats& low, const UnitFloats& high, BFloat16* out) {
    const __m512bh rounded = _mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
    _mm512_storeu_si512(out, (__m512i)rounded);
  }

  static DCNV2_INLINE void StorePairs(const UnitFloats& first, const UnitFloats& second, BFloat16* out) {
    typedef uint16_t Positions __attribute__((vector_size(64)));
    constexpr Positions kInTurn = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                   8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512bh rounded = _mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
    _mm512_storeu_si512(out, _mm512_permutexvar_epi16((__m512i)kInTurn, (__m512i)rounded));
  }
};

}  // namespace
}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_SIMD_AVX512_BF16_INL_H_
