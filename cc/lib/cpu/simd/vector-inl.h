// Vectors of DCNV2_VECTOR_BYTES in terms of the compiler's vector extensions. Like every -inl.h file here it is
// included once per instruction set: nothing in it may be visible to another one, nor call a function that is not
// always inlined.
#ifndef DCNV2_CC_LIB_CPU_SIMD_VECTOR_INL_H_
#define DCNV2_CC_LIB_CPU_SIMD_VECTOR_INL_H_

#include "cc/lib/bilinear.h"
#include "cc/lib/storage.h"

#if defined(__x86_64__)
// Some versions of GCC take the deliberately undefined operands of its own intrinsics for a mistake.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

namespace dcnv2 {
namespace DCNV2_SIMD_NAMESPACE {

template <typename T>
struct IntegerOfSize;
template <>
struct IntegerOfSize<float> {
  using type = int32_t;
};
template <>
struct IntegerOfSize<double> {
  using type = int64_t;
};

template <typename T>
struct Simd {
  static constexpr int64_t kLanes = DCNV2_VECTOR_BYTES / sizeof(T);
  using Integer = typename IntegerOfSize<T>::type;
  typedef T Vector __attribute__((vector_size(DCNV2_VECTOR_BYTES)));
  typedef T Unaligned __attribute__((vector_size(DCNV2_VECTOR_BYTES), aligned(alignof(T)), may_alias));
  typedef Integer IntegerVector __attribute__((vector_size(DCNV2_VECTOR_BYTES)));
  typedef int32_t Index __attribute__((vector_size(kLanes * sizeof(int32_t))));
  typedef int32_t UnalignedIndex __attribute__((vector_size(kLanes * sizeof(int32_t)), aligned(4), may_alias));

  static DCNV2_INLINE Vector Load(const T* p) { return *reinterpret_cast<const Unaligned*>(p); }
  static DCNV2_INLINE void Store(T* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }
  static DCNV2_INLINE void StoreIndex(int32_t* p, IntegerVector v) {
    *reinterpret_cast<UnalignedIndex*>(p) = __builtin_convertvector(v, Index);
  }
};

// ---- 16-bit storage ------------------------------------------------------------------------------------------------

using Float = Simd<float>;
typedef uint32_t Bits __attribute__((vector_size(DCNV2_VECTOR_BYTES)));
typedef uint16_t ShortBits __attribute__((vector_size(DCNV2_VECTOR_BYTES / 2)));
typedef uint16_t UnalignedShortBits __attribute__((vector_size(DCNV2_VECTOR_BYTES / 2), aligned(2), may_alias));

// Load and Store convert from and to the type that memory holds.
template <typename T>
DCNV2_INLINE typename Simd<T>::Vector Load(const T* p) {
  return Simd<T>::Load(p);
}
DCNV2_INLINE Float::Vector Load(const BFloat16* p) {
  // GCC would widen the halves of these vectors one by one.
#if DCNV2_VECTOR_BYTES == 64
  return (Float::Vector)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16);
#elif DCNV2_VECTOR_BYTES == 32
  return (Float::Vector)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16);
#else
  const ShortBits bits = *reinterpret_cast<const UnalignedShortBits*>(p);
  return (Float::Vector)(__builtin_convertvector(bits, Bits) << 16);
#endif
}
DCNV2_INLINE Float::Vector Load(const Half* p) {
#if DCNV2_VECTOR_BYTES == 64
  return (Float::Vector)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif DCNV2_VECTOR_BYTES == 32
  return (Float::Vector)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  Float::Vector v = {};
  for (int64_t i = 0; i < Float::kLanes; ++i) v[i] = Widen(p[i]);
  return v;
#endif
}

template <typename T>
DCNV2_INLINE void Store(T* p, typename Simd<T>::Vector v) {
  Simd<T>::Store(p, v);
}
DCNV2_INLINE void Store(BFloat16* p, Float::Vector v) {
  const Bits bits = (Bits)v;
  const Bits rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const Bits result = v == v ? rounded : bits >> 16 | 0x40;
  *reinterpret_cast<UnalignedShortBits*>(p) = __builtin_convertvector(result, ShortBits);
}
DCNV2_INLINE void Store(Half* p, Float::Vector v) {
#if DCNV2_VECTOR_BYTES == 64
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
#elif DCNV2_VECTOR_BYTES == 32
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int64_t i = 0; i < Float::kLanes; ++i) p[i] = Narrow<Half>(v[i]);
#endif
}

// ---- Sums over the lanes -------------------------------------------------------------------------------------------

template <typename T>
DCNV2_INLINE T SumLanes(typename Simd<T>::Vector v) {
  T sum = v[0];
  for (int64_t i = 1; i < Simd<T>::kLanes; ++i) sum += v[i];
  return sum;
}

// Adds the sums of four vectors to out[0..3]. On x86 the vectors are transposed while they are summed.
template <typename T>
DCNV2_INLINE void AddLaneSums(const typename Simd<T>::Vector (&v)[4], T* out) {
#if defined(__x86_64__)
  if constexpr (sizeof(T) == sizeof(float)) {
#if DCNV2_VECTOR_BYTES == 64
    const auto pair = [](auto a, auto b) {
      return _mm512_add_ps(_mm512_unpacklo_ps((__m512)a, (__m512)b), _mm512_unpackhi_ps((__m512)a, (__m512)b));
    };
    const __m512d low = (__m512d)pair(v[0], v[1]), high = (__m512d)pair(v[2], v[3]);
    const __m512 quad = _mm512_add_ps((__m512)_mm512_unpacklo_pd(low, high), (__m512)_mm512_unpackhi_pd(low, high));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(quad), _mm512_extractf32x8_ps(quad, 1));
    const __m128 sum = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
#elif DCNV2_VECTOR_BYTES == 32
    const __m256 quad =
        _mm256_hadd_ps(_mm256_hadd_ps((__m256)v[0], (__m256)v[1]), _mm256_hadd_ps((__m256)v[2], (__m256)v[3]));
    const __m128 sum = _mm_add_ps(_mm256_castps256_ps128(quad), _mm256_extractf128_ps(quad, 1));
#else
    __m128 row[4] = {(__m128)v[0], (__m128)v[1], (__m128)v[2], (__m128)v[3]};
    _MM_TRANSPOSE4_PS(row[0], row[1], row[2], row[3]);
    const __m128 sum = _mm_add_ps(_mm_add_ps(row[0], row[1]), _mm_add_ps(row[2], row[3]));
#endif
    _mm_storeu_ps(out, _mm_add_ps(_mm_loadu_ps(out), sum));
    return;
  }
#endif
  for (int i = 0; i < 4; ++i) out[i] += SumLanes<T>(v[i]);
}

// The sampling rules of bilinear.h on whole vectors of positions.
template <typename T>
struct VectorLanes {
  using Index = typename Simd<T>::IntegerVector;
  using Vector = typename Simd<T>::Vector;
  static DCNV2_INLINE Index Truncate(Vector value) { return __builtin_convertvector(value, Index); }
  static DCNV2_INLINE Vector ToValue(Index index) { return __builtin_convertvector(index, Vector); }
  static DCNV2_INLINE Vector Broadcast(double value) { return Vector{} + static_cast<T>(value); }
};

}  // namespace DCNV2_SIMD_NAMESPACE

template <>
struct Lanes<DCNV2_SIMD_NAMESPACE::Simd<float>::Vector> : DCNV2_SIMD_NAMESPACE::VectorLanes<float> {};
template <>
struct Lanes<DCNV2_SIMD_NAMESPACE::Simd<double>::Vector> : DCNV2_SIMD_NAMESPACE::VectorLanes<double> {};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_SIMD_VECTOR_INL_H_
