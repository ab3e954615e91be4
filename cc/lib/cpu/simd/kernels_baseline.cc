// Inner loops for any processor: 128-bit vectors.

#define DCNV2_SIMD_NAMESPACE simd_baseline
#define DCNV2_SIMD_NAME "baseline"
#define DCNV2_VECTOR_BYTES 16
#define DCNV2_GEMM_ROWS 4
#include "cc/lib/cpu/simd/kernels-inl.h"
