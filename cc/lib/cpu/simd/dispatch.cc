#include <cstdlib>
#include <string_view>

#include "cc/lib/cpu/simd/kernels.h"
#include "cc/lib/cpu/simd/matrix_units.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

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

// Who asks for matrix units gets the best vectors beside them.
InstructionSet Chosen(std::string_view wanted) {
  const InstructionSet supported = Supported();
  if (wanted == "baseline") return kBaseline;
  if (wanted == "avx2" && supported >= kAvx2) return kAvx2;
  return supported;
}

// Whether the leaf of CPUID has a feature's bit. Not every compiler knows these features by name.
bool HasFeature(unsigned subleaf, bool in_eax, int bit) {
  unsigned eax, ebx, ecx, edx;
  if (!__get_cpuid_count(7, subleaf, &eax, &ebx, &ecx, &edx)) return false;
  return (in_eax ? eax : edx) >> bit & 1;
}

bool HasAvx512Bf16() { return Supported() == kAvx512 && HasFeature(1, true, 5); }

// The state of tiles is so large that the system gives it only to processes that ask for it, since Linux 5.16.
bool SystemGrantsTiles() {
#if defined(__linux__)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

bool HasAmx() {
  constexpr int kAmxBf16 = 22, kAmxTile = 24;
  return HasAvx512Bf16() && HasFeature(0, false, kAmxBf16) && HasFeature(0, false, kAmxTile) && SystemGrantsTiles();
}
#endif

std::string_view Wanted() {
  const char* wanted = std::getenv("TF_DCNV2_SIMD");
  return wanted == nullptr ? "" : wanted;
}

const MatrixUnits* ChosenUnits(std::string_view wanted) {
  for (const MatrixUnits* emulated : {&kEmulatedAmxUnits, &kEmulatedAvx512Bf16Units}) {
    if (wanted == emulated->name) return emulated;
  }
#if defined(__x86_64__)
  const bool vectors_only = wanted == "baseline" || wanted == "avx2" || wanted == "avx512";
  if (vectors_only || !HasAvx512Bf16()) return nullptr;
  if (wanted == kAvx512Bf16Units.name) return &kAvx512Bf16Units;
  if (HasAmx()) return &kAmxUnits;
  // Elsewhere a dot product takes the time of four multiplications and additions instead of one, and vectors are
  // faster.
  if (__builtin_cpu_is("amd")) return &kAvx512Bf16Units;
#endif
  return nullptr;
}

}  // namespace

template <typename S>
const SimdKernels<S>& BestSimdKernels() {
#if defined(__x86_64__)
  static const InstructionSet chosen = Chosen(Wanted());
  if (chosen == kAvx512) return simd_avx512::Kernels<S>();
  if (chosen == kAvx2) return simd_avx2::Kernels<S>();
#endif
  return simd_baseline::Kernels<S>();
}

#define DCNV2_INSTANTIATE(S) template const SimdKernels<S>& BestSimdKernels<S>()
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

const MatrixUnits* BestMatrixUnits() {
  static const MatrixUnits* const chosen = ChosenUnits(Wanted());
  return chosen;
}

}  // namespace dcnv2
