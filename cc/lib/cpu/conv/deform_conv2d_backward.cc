#include "cc/lib/cpu/conv/deform_conv2d_backward.h"

#include <algorithm>

namespace dcnv2 {

std::vector<ChannelChunk> DivideChannels(const DeformConv2DShape& shape, int64_t max_channels, int64_t step) {
  const int64_t chunks = CeilDiv(shape.in_channels, max_channels);
  const int64_t width = RoundUp(CeilDiv(shape.in_channels, chunks), step);
  std::vector<ChannelChunk> result;
  for (int64_t begin = 0; begin < shape.in_channels; begin += width) {
    result.push_back({SplitAtGroups(shape, begin, std::min(begin + width, shape.in_channels))});
  }
  return result;
}

template <typename S>
void DeformConv2DBackward(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy,
                          const DeformConv2DGradients<S>& gradients, const ParallelFor& parallel_for) {
  using T = Compute<S>;
  if (shape.has_no_gradient()) {
    const int64_t samples = shape.batch * shape.out_pixels() * shape.samples_per_pixel();
    std::fill_n(gradients.x, shape.batch * shape.in_height * shape.in_width * shape.in_channels, S{});
    std::fill_n(gradients.kernel, shape.taps() * shape.group_in_channels() * shape.out_channels, S{});
    std::fill_n(gradients.offset, 2 * samples, T(0));
    if (gradients.mask != nullptr) std::fill_n(gradients.mask, samples, T(0));
    return;
  }
  KernelGradient(shape, inputs, dy, gradients.kernel, parallel_for);
  ImageAndSampleGradients(shape, inputs, dy, gradients, parallel_for);
}

#define DCNV2_INSTANTIATE(S)                                                                              \
  template void DeformConv2DBackward<S>(const DeformConv2DShape&, const DeformConv2DInputs<S>&, const S*, \
                                        const DeformConv2DGradients<S>&, const ParallelFor&)
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
