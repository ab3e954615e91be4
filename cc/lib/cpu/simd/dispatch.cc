#include <cstdlib>
#include <cstring>

#include "cc/lib/cpu/simd/kernels.h"

namespace dcnv2 {
namespace {

#if defined(__x86_64__)
enum InstructionSet { kBaseline, kAvx2, kAvx512 };

InstructionSet Supported() {
  __builtin_cpu_init();
  // No processor has AVX2 without F16C, which not every compiler can ask for.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  return avx512 ? kAvx512 : avx2 ? kAvx2 : kBaseline;
}

InstructionSet Chosen() {
  const InstructionSet supported = Supported();
  const char* wanted = std::getenv("TF_DCNV2_SIMD");
  if (wanted != nullptr && std::strcmp(wanted, "baseline") == 0) return kBaseline;
  if (wanted != nullptr && std::strcmp(wanted, "avx2") == 0 && supported >= kAvx2) return kAvx2;
  return supported;
}
#endif

}  // namespace

template <typename S>
const SimdKernels<S>& BestSimdKernels() {
#if defined(__x86_64__)
  static const InstructionSet chosen = Chosen();
  if (chosen == kAvx512) return simd_avx512::Kernels<S>();
  if (chosen == kAvx2) return simd_avx2::Kernels<S>();
#endif
  return simd_baseline::Kernels<S>();
}

#define DCNV2_INSTANTIATE(S) template const SimdKernels<S>& BestSimdKernels<S>()
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
