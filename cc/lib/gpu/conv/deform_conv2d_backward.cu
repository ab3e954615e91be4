#include <cuda_runtime_api.h>

#include <algorithm>

#include "cc/lib/gpu/conv/deform_conv2d.h"
#include "cc/lib/gpu/conv/deform_conv2d_backward.h"

namespace dcnv2 {
namespace {

template <typename S>
cudaError_t WriteZeros(const DeformConv2DShape& shape, const DeformConv2DGradients<S>& gradients, cudaStream_t stream) {
  using T = Compute<S>;
  const int64_t samples = shape.batch * shape.out_pixels() * shape.samples_per_pixel();
  cudaError_t status = cudaSuccess;
  // Zero has no bits in any of the types. Addresses of nothing may be null.
  const auto clear = [&status, stream](void* data, int64_t bytes) {
    if (status == cudaSuccess && data != nullptr && bytes > 0) status = cudaMemsetAsync(data, 0, bytes, stream);
  };
  clear(gradients.x, shape.batch * shape.in_height * shape.in_width * shape.in_channels * sizeof(S));
  clear(gradients.kernel, shape.taps() * shape.group_in_channels() * shape.out_channels * sizeof(S));
  clear(gradients.offset, 2 * samples * sizeof(T));
  clear(gradients.mask, samples * sizeof(T));
  return status;
}

}  // namespace

template <typename S>
int64_t DeformConv2DBackwardGpuWorkspace(const DeformConv2DShape& shape, const GpuOptions& options) {
  if (shape.has_no_gradient()) return 0;
  // One part after the other.
  return std::max(KernelGradientGpuWorkspace<S>(shape), ImageGradientGpuWorkspace<S>(shape, options));
}

template <typename S>
cudaError_t DeformConv2DBackwardGpu(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy,
                                    const DeformConv2DGradients<S>& gradients, void* workspace,
                                    const GpuOptions& options, cudaStream_t stream) {
  if (shape.has_no_gradient()) return WriteZeros(shape, gradients, stream);
  if (gradients.kernel != nullptr) {
    const cudaError_t status = KernelGradientGpu(shape, inputs, dy, gradients.kernel, workspace, options, stream);
    if (status != cudaSuccess) return status;
  }
  return ImageGradientGpu(shape, inputs, dy, gradients, workspace, options, stream);
}

#define DCNV2_INSTANTIATE(S)                                                                                        \
  template int64_t DeformConv2DBackwardGpuWorkspace<S>(const DeformConv2DShape&, const GpuOptions&);                \
  template cudaError_t DeformConv2DBackwardGpu<S>(const DeformConv2DShape&, const DeformConv2DInputs<S>&, const S*, \
                                                  const DeformConv2DGradients<S>&, void*, const GpuOptions&,        \
                                                  cudaStream_t)
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
