// The kernels of cc/lib behind C functions, for tests and benchmarks that call them without TensorFlow.
//
// Every function that computes exists for the device of the kernels (`gpu`: pointers are of its memory, `stream` is a
// cudaStream_t, the work may still be going on when it returns) and for the processor (`cpu`). They return 0 or an
// error for dcnv2_message. Arrays are laid out as in cc/lib/deform_conv2d.h and cc/lib/deform_roi_pool.h; those without
// element type here are of the storage type, those that say so of its Compute type.
#ifndef DCNV2_CC_C_API_C_API_H_
#define DCNV2_CC_C_API_C_API_H_

#include <cstdint>

#include "cc/lib/geometry.h"

extern "C" {

// Storage types.
enum dcnv2_type { dcnv2_float32, dcnv2_float64, dcnv2_bfloat16, dcnv2_float16 };

// As GpuOptions in cc/lib/gpu/common/options.h; the last three are its GpuTuning.
struct dcnv2_options {
  int32_t allow_tf32, deterministic;
  int32_t tile, slab_steps, blocks_per_multiprocessor;
};

struct dcnv2_conv_arrays {
  const void *x, *kernel, *offset, *mask;  // the last two of Compute type; mask may be null
};

// On GPUs, null is not computed: x, kernel, or offset and mask together.
struct dcnv2_conv_gradients {
  void *x, *kernel, *offset, *mask;
};

struct dcnv2_roi_problem {
  int64_t batch, channels, rois, levels;
  int64_t pooled_height, pooled_width, sampling_ratio;
  int32_t mxnet_convention;
  double gamma;
  const int32_t *heights, *widths;  // of the levels; these three are always the host's
  const double* spatial_scales;
};

struct dcnv2_roi_arrays {
  const void* const* features;  // one address per level, in the host's memory
  const void* boxes;            // of Compute type
  const int32_t *box_indices, *levels;
  const void *offset, *mask;  // of Compute type, may be null
};

struct dcnv2_roi_gradients {
  void* const* features;
  void *offset, *mask;
};

#pragma GCC visibility push(default)

// What an error means. Valid until the next call.
const char* dcnv2_message(int32_t error);

int64_t dcnv2_conv_forward_workspace_gpu(dcnv2_type type, const dcnv2::DeformConv2DShape* shape,
                                         const dcnv2_options* options);
int32_t dcnv2_conv_forward_gpu(dcnv2_type type, const dcnv2::DeformConv2DShape* shape, const dcnv2_conv_arrays* inputs,
                               void* y, void* workspace, const dcnv2_options* options, void* stream);
int64_t dcnv2_conv_backward_workspace_gpu(dcnv2_type type, const dcnv2::DeformConv2DShape* shape,
                                          const dcnv2_options* options);
int32_t dcnv2_conv_backward_gpu(dcnv2_type type, const dcnv2::DeformConv2DShape* shape, const dcnv2_conv_arrays* inputs,
                                const void* dy, const dcnv2_conv_gradients* gradients, void* workspace,
                                const dcnv2_options* options, void* stream);

int32_t dcnv2_roi_forward_gpu(dcnv2_type type, const dcnv2_roi_problem* problem, const dcnv2_roi_arrays* inputs,
                              void* y, void* stream);
int64_t dcnv2_roi_backward_workspace_gpu(dcnv2_type type, const dcnv2_roi_problem* problem,
                                         const dcnv2_options* options);
int32_t dcnv2_roi_backward_gpu(dcnv2_type type, const dcnv2_roi_problem* problem, const dcnv2_roi_arrays* inputs,
                               const void* dy, const dcnv2_roi_gradients* gradients, void* workspace,
                               const dcnv2_options* options, void* stream);

int32_t dcnv2_conv_forward_cpu(dcnv2_type type, const dcnv2::DeformConv2DShape* shape, const dcnv2_conv_arrays* inputs,
                               void* y);
int32_t dcnv2_conv_backward_cpu(dcnv2_type type, const dcnv2::DeformConv2DShape* shape, const dcnv2_conv_arrays* inputs,
                                const void* dy, const dcnv2_conv_gradients* gradients);
int32_t dcnv2_roi_forward_cpu(dcnv2_type type, const dcnv2_roi_problem* problem, const dcnv2_roi_arrays* inputs,
                              void* y);
int32_t dcnv2_roi_backward_cpu(dcnv2_type type, const dcnv2_roi_problem* problem, const dcnv2_roi_arrays* inputs,
                               const void* dy, const dcnv2_roi_gradients* gradients);

#pragma GCC visibility pop

}  // extern "C"

#endif  // DCNV2_CC_C_API_C_API_H_
