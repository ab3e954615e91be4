// The sampling plan of a few output pixels, and the division of the column matrix (pixels x taps x channels) into
// blocks that fit one scratch tile. Shared by the forward and backward convolution.
#ifndef DCNV2_CC_LIB_CPU_CONV_COLUMN_TILE_H_
#define DCNV2_CC_LIB_CPU_CONV_COLUMN_TILE_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cc/lib/cpu/aligned_buffer.h"
#include "cc/lib/cpu/simd/kernels.h"
#include "cc/lib/geometry.h"

namespace dcnv2 {

// Which samples of a pixel a plan covers: `deformable_groups` x `taps`, starting at the first ones given.
struct SampleRange {
  int64_t first_deformable_group, deformable_groups;
  int64_t first_tap, taps;

  int64_t per_pixel() const { return deformable_groups * taps; }
  int64_t Index(int64_t deformable_group, int64_t tap) const {
    return (deformable_group - first_deformable_group) * taps + tap - first_tap;
  }
};

inline SampleRange AllSamples(const DeformConv2DShape& shape) { return {0, shape.deformable_groups, 0, shape.taps()}; }

inline int64_t RoundUp(int64_t size, int64_t step) { return CeilDiv(size, step) * step; }

// Plans are computed in whole vectors, 16 elements being the most that any instruction set has.
inline int64_t RoundUpToVectors(int64_t size) { return RoundUp(size, 16); }

// Pixels of a tile unless a reason for another number is given: whole register blocks of every instruction set.
constexpr int64_t kTilePixels = 84;

struct PixelPosition {
  int64_t row, column;
};

// The order in which output pixels are visited, image by image. The samples of a row of pixels reach over several rows
// of the map; where so much of a wide map would not stay in the second-level cache, pixels are visited in vertical
// strips.
class PixelOrder {
 public:
  explicit PixelOrder(const DeformConv2DShape& shape);

  int64_t size() const { return batch_ * height_ * width_; }
  // How many pixels from the `ordinal`-th on lie side by side in memory.
  int64_t RunLength(int64_t ordinal) const;
  // Position of the `ordinal`-th pixel in its image.
  PixelPosition Locate(int64_t ordinal) const;
  // Moves a position to the next pixel; returns whether that is the first one of the next image.
  bool Advance(PixelPosition* position) const;

 private:
  int64_t StripBegin(int64_t column) const { return column - column % strip_width_; }
  int64_t StripEnd(int64_t column) const { return std::min(StripBegin(column) + strip_width_, width_); }

  const int64_t batch_, height_, width_;
  const int64_t strip_width_;
};

enum class PlanKind {
  kForward,        // to read samples
  kBackward,       // to spread gradients over the map
  kWithGradients,  // the latter, with the forms of the samples' own gradients
};

// Plans the samples of up to `max_pixels` output pixels that follow each other in the PixelOrder.
template <typename S>
class TilePlan {
 public:
  using T = Compute<S>;

  TilePlan(const DeformConv2DShape& shape, const SampleRange& range, int64_t max_pixels, PlanKind kind);

  void Update(const SimdKernels<S>& simd, const S* x, const T* offset, const T* mask, int64_t first_ordinal,
              int64_t count);

  // The planned pixels, as indices into the batch.
  const std::vector<int64_t>& pixels() const { return pixels_; }

  const SamplePlan<T>& plan() const { return plan_; }
  const SampleGradientPlan<T>& gradient_plan() const { return gradient_plan_; }
  ColumnBlock<S> Block(const std::vector<ChannelRun>& runs) const {
    return {static_cast<int64_t>(pixels_.size()), range_.per_pixel(), images_.data(), shape_.in_channels, runs.data(),
            static_cast<int64_t>(runs.size())};
  }

 private:
  const DeformConv2DShape shape_;
  const SampleRange range_;
  const PixelOrder order_;
  const PlanKind kind_;
  const int64_t array_size_;
  std::vector<int64_t> pixels_;
  AlignedBuffer<T> values_;
  AlignedBuffer<int32_t> corners_;
  T *row_, *column_, *modulation_;
  std::vector<const S*> images_;
  std::vector<PixelPosition> taps_;  // without offsets, relative to the first tap of the kernel
  SamplePlan<T> plan_;
  SampleGradientPlan<T> gradient_plan_;
};

// Channels [begin, begin + count) of x that share a group and a deformable group.
struct ChannelSegment {
  int64_t group, deformable_group, begin, count;
};

// Cuts channels [begin, end) wherever the group or the deformable group changes.
std::vector<ChannelSegment> SplitAtGroups(const DeformConv2DShape& shape, int64_t begin, int64_t end);

// How a block reads `taps` taps of channels that lie side by side, those of `segments`: tap by tap, `width` tile
// columns each.
std::vector<ChannelRun> RunsOfTaps(const SampleRange& samples, const std::vector<ChannelSegment>& segments,
                                   int64_t first_tap, int64_t taps, int64_t width);

// Whether several groups are multiplied at a time, as they lie side by side: a vector has room for more than one, and
// all have as many outputs as inputs.
bool HasNarrowGroups(const DeformConv2DShape& shape, int64_t lanes);

// The problem as it is sampled, which groups have no influence on.
inline DeformConv2DShape WithoutGroups(DeformConv2DShape shape) {
  shape.groups = 1;
  return shape;
}

// How many pixels a tile may have so that its plan stays small even with very many taps and deformable groups.
template <typename T>
int64_t PixelsPerTile(int64_t samples_per_pixel, int64_t wanted) {
  constexpr int64_t kPlanBytes = int64_t{1} << 21;
  const int64_t bytes_per_pixel = samples_per_pixel * 24 * static_cast<int64_t>(sizeof(T));
  return std::max<int64_t>(1, std::min(wanted, kPlanBytes / bytes_per_pixel));
}

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_CONV_COLUMN_TILE_H_
