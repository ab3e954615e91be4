#include <cuda_runtime_api.h>

#include "cc/c_api/c_api.h"
#include "cc/lib/cpu/conv/deform_conv2d.h"
#include "cc/lib/cpu/roi/deform_roi_pool.h"
#include "cc/lib/gpu/conv/deform_conv2d.h"
#include "cc/lib/gpu/roi/deform_roi_pool.h"

namespace dcnv2 {
namespace {

template <typename S>
struct StorageTag {
  using Type = S;
};

// Calls `function` with the tag of a storage type and returns what it does.
template <typename Function>
auto WithType(dcnv2_type type, Function function) {
  switch (type) {
    case dcnv2_float64:
      return function(StorageTag<double>());
    case dcnv2_bfloat16:
      return function(StorageTag<BFloat16>());
    case dcnv2_float16:
      return function(StorageTag<Half>());
    default:
      return function(StorageTag<float>());
  }
}

template <typename S>
const S* As(const void* address) {
  return static_cast<const S*>(address);
}

template <typename S>
S* As(void* address) {
  return static_cast<S*>(address);
}

GpuOptions Options(const dcnv2_options& options) {
  GpuOptions result;
  result.allow_tf32 = options.allow_tf32 != 0;
  result.deterministic = options.deterministic != 0;
  result.tuning = {options.tile, options.slab_steps, options.blocks_per_multiprocessor};
  return result;
}

template <typename S>
DeformConv2DInputs<S> Inputs(const dcnv2_conv_arrays& arrays) {
  return {As<S>(arrays.x), As<S>(arrays.kernel), As<Compute<S>>(arrays.offset), As<Compute<S>>(arrays.mask)};
}

template <typename S>
DeformConv2DGradients<S> Gradients(const dcnv2_conv_gradients& arrays) {
  return {As<S>(arrays.x), As<S>(arrays.kernel), As<Compute<S>>(arrays.offset), As<Compute<S>>(arrays.mask)};
}

DeformRoiPoolShape Shape(const dcnv2_roi_problem& problem) {
  DeformRoiPoolShape shape;
  shape.batch = problem.batch;
  shape.channels = problem.channels;
  shape.rois = problem.rois;
  for (int64_t i = 0; i < problem.levels; ++i) {
    shape.levels.push_back({problem.heights[i], problem.widths[i], problem.spatial_scales[i]});
  }
  const RoiConvention convention = problem.mxnet_convention ? RoiConvention::kMxnet : RoiConvention::kAligned;
  shape.config = {problem.pooled_height, problem.pooled_width, problem.sampling_ratio, convention, problem.gamma};
  return shape;
}

template <typename S>
DeformRoiPoolInputs<S> Inputs(const dcnv2_roi_problem& problem, const dcnv2_roi_arrays& arrays) {
  DeformRoiPoolInputs<S> inputs;
  for (int64_t i = 0; i < problem.levels; ++i) inputs.features.push_back(As<S>(arrays.features[i]));
  inputs.boxes = As<Compute<S>>(arrays.boxes);
  inputs.box_indices = arrays.box_indices;
  inputs.levels = arrays.levels;
  inputs.offset = As<Compute<S>>(arrays.offset);
  inputs.mask = As<Compute<S>>(arrays.mask);
  return inputs;
}

template <typename S>
DeformRoiPoolGradients<S> Gradients(const dcnv2_roi_problem& problem, const dcnv2_roi_gradients& arrays) {
  DeformRoiPoolGradients<S> gradients;
  for (int64_t i = 0; i < problem.levels; ++i) gradients.features.push_back(As<S>(arrays.features[i]));
  gradients.offset = As<Compute<S>>(arrays.offset);
  gradients.mask = As<Compute<S>>(arrays.mask);
  return gradients;
}

// One thread: what is computed here is compared, not timed.
void InOnePiece(int64_t n, int64_t, const RangeBody& body) { body(0, n); }

cudaStream_t Stream(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace
}  // namespace dcnv2

using namespace dcnv2;

const char* dcnv2_message(int32_t error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

int64_t dcnv2_conv_forward_workspace_gpu(dcnv2_type type, const DeformConv2DShape* shape,
                                         const dcnv2_options* options) {
  return WithType(type, [&](auto tag) {
    return DeformConv2DForwardGpuWorkspace<typename decltype(tag)::Type>(*shape, Options(*options));
  });
}

int32_t dcnv2_conv_forward_gpu(dcnv2_type type, const DeformConv2DShape* shape, const dcnv2_conv_arrays* inputs,
                               void* y, void* workspace, const dcnv2_options* options, void* stream) {
  return WithType(type, [&](auto tag) {
    using S = typename decltype(tag)::Type;
    return DeformConv2DForwardGpu<S>(*shape, Inputs<S>(*inputs), As<S>(y), workspace, Options(*options),
                                     Stream(stream));
  });
}

int64_t dcnv2_conv_backward_workspace_gpu(dcnv2_type type, const DeformConv2DShape* shape,
                                          const dcnv2_options* options) {
  return WithType(type, [&](auto tag) {
    return DeformConv2DBackwardGpuWorkspace<typename decltype(tag)::Type>(*shape, Options(*options));
  });
}

int32_t dcnv2_conv_backward_gpu(dcnv2_type type, const DeformConv2DShape* shape, const dcnv2_conv_arrays* inputs,
                                const void* dy, const dcnv2_conv_gradients* gradients, void* workspace,
                                const dcnv2_options* options, void* stream) {
  return WithType(type, [&](auto tag) {
    using S = typename decltype(tag)::Type;
    return DeformConv2DBackwardGpu<S>(*shape, Inputs<S>(*inputs), As<S>(dy), Gradients<S>(*gradients), workspace,
                                      Options(*options), Stream(stream));
  });
}

int32_t dcnv2_roi_forward_gpu(dcnv2_type type, const dcnv2_roi_problem* problem, const dcnv2_roi_arrays* inputs,
                              void* y, void* stream) {
  return WithType(type, [&](auto tag) {
    using S = typename decltype(tag)::Type;
    return DeformRoiPoolForwardGpu<S>(Shape(*problem), Inputs<S>(*problem, *inputs), As<S>(y), Stream(stream));
  });
}

int64_t dcnv2_roi_backward_workspace_gpu(dcnv2_type type, const dcnv2_roi_problem* problem,
                                         const dcnv2_options* options) {
  return WithType(type, [&](auto tag) {
    return DeformRoiPoolBackwardGpuWorkspace<typename decltype(tag)::Type>(Shape(*problem), Options(*options));
  });
}

int32_t dcnv2_roi_backward_gpu(dcnv2_type type, const dcnv2_roi_problem* problem, const dcnv2_roi_arrays* inputs,
                               const void* dy, const dcnv2_roi_gradients* gradients, void* workspace,
                               const dcnv2_options* options, void* stream) {
  return WithType(type, [&](auto tag) {
    using S = typename decltype(tag)::Type;
    return DeformRoiPoolBackwardGpu<S>(Shape(*problem), Inputs<S>(*problem, *inputs), As<S>(dy),
                                       Gradients<S>(*problem, *gradients), workspace, Options(*options),
                                       Stream(stream));
  });
}

int32_t dcnv2_conv_forward_cpu(dcnv2_type type, const DeformConv2DShape* shape, const dcnv2_conv_arrays* inputs,
                               void* y) {
  return WithType(type, [&](auto tag) {
    using S = typename decltype(tag)::Type;
    DeformConv2DForward<S>(*shape, Inputs<S>(*inputs), As<S>(y), InOnePiece);
    return 0;
  });
}

int32_t dcnv2_conv_backward_cpu(dcnv2_type type, const DeformConv2DShape* shape, const dcnv2_conv_arrays* inputs,
                                const void* dy, const dcnv2_conv_gradients* gradients) {
  return WithType(type, [&](auto tag) {
    using S = typename decltype(tag)::Type;
    DeformConv2DBackward<S>(*shape, Inputs<S>(*inputs), As<S>(dy), Gradients<S>(*gradients), InOnePiece);
    return 0;
  });
}

int32_t dcnv2_roi_forward_cpu(dcnv2_type type, const dcnv2_roi_problem* problem, const dcnv2_roi_arrays* inputs,
                              void* y) {
  return WithType(type, [&](auto tag) {
    using S = typename decltype(tag)::Type;
    DeformRoiPoolForward<S>(Shape(*problem), Inputs<S>(*problem, *inputs), As<S>(y), InOnePiece);
    return 0;
  });
}

int32_t dcnv2_roi_backward_cpu(dcnv2_type type, const dcnv2_roi_problem* problem, const dcnv2_roi_arrays* inputs,
                               const void* dy, const dcnv2_roi_gradients* gradients) {
  return WithType(type, [&](auto tag) {
    using S = typename decltype(tag)::Type;
    DeformRoiPoolBackward<S>(Shape(*problem), Inputs<S>(*problem, *inputs), As<S>(dy),
                             Gradients<S>(*problem, *gradients), InOnePiece);
    return 0;
  });
}
