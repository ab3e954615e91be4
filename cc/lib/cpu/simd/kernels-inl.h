// The tables of kernels.h for one instruction set. Included by one file per set, which defines
// DCNV2_SIMD_NAMESPACE, DCNV2_SIMD_NAME, DCNV2_VECTOR_BYTES and DCNV2_GEMM_ROWS.
#include "cc/lib/cpu/simd/gemm-inl.h"
#include "cc/lib/cpu/simd/groups-inl.h"
#include "cc/lib/cpu/simd/kernels.h"
#include "cc/lib/cpu/simd/rows-inl.h"
#include "cc/lib/cpu/simd/sampling-inl.h"

namespace dcnv2 {
namespace DCNV2_SIMD_NAMESPACE {

template <typename S>
const SimdKernels<S>& Kernels() {
  using T = Compute<S>;
  static constexpr SimdKernels<S> kernels = {
      DCNV2_SIMD_NAME,
      kGemmRows,
      kGemmVectors * Simd<T>::kLanes,
      Simd<T>::kLanes,
      Gemm<T, false>,
      Gemm<T, true>,
      GroupProduct<T, false>,
      GroupProduct<T, true>,
      PlanSamples<T>,
      Gather<S>,
      Scatter<S>,
      CombineRows<S>,
      AddToRows<S>,
      DotRows<S>,
      NarrowAll<S>,
  };
  return kernels;
}

#define DCNV2_INSTANTIATE(S) template const SimdKernels<S>& Kernels<S>()
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace DCNV2_SIMD_NAMESPACE
}  // namespace dcnv2
