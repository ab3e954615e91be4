#include <cstdlib>
#include <cstring>

#include "cc/lib/simd_kernels.h"

namespace dcnv2 {
namespace {

enum InstructionSet { kBaseline, kAvx2, kAvx512 };

InstructionSet Supported() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  return avx512 ? kAvx512 : avx2 ? kAvx2 : kBaseline;
#else
  return kBaseline;
#endif
}

InstructionSet Chosen() {
  const InstructionSet supported = Supported();
  const char* wanted = std::getenv("TF_DCNV2_SIMD");
  if (wanted != nullptr && std::strcmp(wanted, "baseline") == 0) return kBaseline;
  if (wanted != nullptr && std::strcmp(wanted, "avx2") == 0 && supported >= kAvx2) return kAvx2;
  return supported;
}

}  // namespace

template <>
const SimdKernels<float>& BestSimdKernels<float>() {
  static const InstructionSet chosen = Chosen();
#if defined(__x86_64__)
  if (chosen == kAvx512) return simd_avx512::kFloatKernels;
  if (chosen == kAvx2) return simd_avx2::kFloatKernels;
#endif
  return simd_baseline::kFloatKernels;
}

template <>
const SimdKernels<double>& BestSimdKernels<double>() {
  static const InstructionSet chosen = Chosen();
#if defined(__x86_64__)
  if (chosen == kAvx512) return simd_avx512::kDoubleKernels;
  if (chosen == kAvx2) return simd_avx2::kDoubleKernels;
#endif
  return simd_baseline::kDoubleKernels;
}

}  // namespace dcnv2
