// What a caller decides about the CUDA kernels.
#ifndef DCNV2_CC_LIB_GPU_OPTIONS_H_
#define DCNV2_CC_LIB_GPU_OPTIONS_H_

namespace dcnv2 {

struct GpuOptions {
  // Products of float32 numbers may be rounded to TF32, which the matrix units multiply; sums stay float32.
  bool allow_tf32 = true;
  // The gradients of maps are summed in a fixed order instead of by atomic additions: slower, bit for bit repeatable.
  // Everything else always is.
  bool deterministic = false;
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_OPTIONS_H_
