// The two passes of the backward convolution. Both recompute the samples instead of storing them.
#ifndef DCNV2_CC_LIB_CPU_CONV_DEFORM_CONV2D_BACKWARD_H_
#define DCNV2_CC_LIB_CPU_CONV_DEFORM_CONV2D_BACKWARD_H_

#include <algorithm>
#include <vector>

#include "cc/lib/cpu/conv/column_tile.h"
#include "cc/lib/cpu/conv/deform_conv2d.h"

namespace dcnv2 {

// Channels that one task owns, cut into segments with one group and deformable group each.
struct ChannelChunk {
  std::vector<ChannelSegment> segments;
  int64_t begin() const { return segments.front().begin; }
  int64_t count() const { return segments.back().begin + segments.back().count - begin(); }
  int64_t first_group() const { return segments.front().group; }
  int64_t last_group() const { return segments.back().group; }
  int64_t first_deformable_group() const { return segments.front().deformable_group; }
  int64_t deformable_groups() const { return segments.back().deformable_group - first_deformable_group() + 1; }
};

// Chunks of at most `max_channels`. All are multiples of `step` but for the last one; multiples of kVectorChannels keep
// vectors whole.
constexpr int64_t kVectorChannels = 16;
std::vector<ChannelChunk> DivideChannels(const DeformConv2DShape& shape, int64_t max_channels, int64_t step);

// dkernel = column^T * dy.
template <typename S>
void KernelGradient(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy, S* dkernel,
                    const ParallelFor& parallel_for);

// dcolumn = dy * kernel^T, spread over the gradient of x and reduced to the gradients of offset and mask.
template <typename S>
void ImageAndSampleGradients(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy,
                             const DeformConv2DGradients<S>& gradients, const ParallelFor& parallel_for);

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_CONV_DEFORM_CONV2D_BACKWARD_H_
