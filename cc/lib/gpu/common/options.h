// What a caller decides about the CUDA kernels.
#ifndef DCNV2_CC_LIB_GPU_COMMON_OPTIONS_H_
#define DCNV2_CC_LIB_GPU_COMMON_OPTIONS_H_

namespace dcnv2 {

// Choices that the kernels make by estimates. Measurements override them to compare; results differ by rounding at
// most. Zero leaves a choice to the kernels, and so does what a pass or device does not have.
struct GpuTuning {
  // Of the matrix products: 1 large, 2 medium, 3 small; of the forward pass on matrix units also 4 wide and, on compute
  // capability 9.0, 5 to 7 its own narrow, wide and halved ones.
  int tile = 0;
  // Forward: how many steps along the depth the channels of a slab fill. See ForwardSource.
  int slab_steps = 0;
  // The most blocks of the convolution's kernels that share a multiprocessor.
  int blocks_per_multiprocessor = 0;
};

struct GpuOptions {
  // Products of float32 numbers may be rounded to TF32, which the matrix units multiply; sums stay float32.
  bool allow_tf32 = true;
  // The gradients of maps are summed in a fixed order instead of by atomic additions: slower, bit for bit repeatable.
  // Everything else always is on one device, and with this option on all devices of one compute capability, however
  // many multiprocessors they have.
  bool deterministic = false;
  GpuTuning tuning = {};
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_COMMON_OPTIONS_H_
