#include "cc/lib/column_tile.h"

namespace dcnv2 {

template <typename S>
TilePlan<S>::TilePlan(const DeformConvShape& shape, const SampleRange& range, int64_t max_pixels, PlanKind kind)
    : shape_(shape),
      range_(range),
      kind_(kind),
      array_size_(RoundUpToVectors(max_pixels * range.per_pixel())),
      values_(array_size_ * (kind == PlanKind::kWithGradients ? 19 : 7)),
      corners_(array_size_ * 4),
      images_(max_pixels) {
  for (int64_t tap = range.first_tap; tap < range.first_tap + range.taps; ++tap) {
    taps_.push_back(
        {tap / shape.kernel_width * shape.dilation.height, tap % shape.kernel_width * shape.dilation.width});
  }
  T* next = values_.data();
  const auto take = [&next, this] {
    T* taken = next;
    next += array_size_;
    return taken;
  };
  row_ = take();
  column_ = take();
  modulation_ = take();
  const bool with_gradients = kind == PlanKind::kWithGradients;
  for (int i = 0; i < 4; ++i) {
    plan_.corner[i] = corners_.data() + i * array_size_;
    plan_.weight[i] = take();
    gradient_plan_.interpolation[i] = with_gradients ? take() : nullptr;
    gradient_plan_.row_slope[i] = with_gradients ? take() : nullptr;
    gradient_plan_.column_slope[i] = with_gradients ? take() : nullptr;
  }
}

template <typename S>
void TilePlan<S>::Update(const SimdKernels<S>& simd, const S* x, const T* offset, const T* mask, int64_t first_pixel,
                         int64_t pixels) {
  pixels_ = pixels;
  const int64_t image_size = shape_.in_height * shape_.in_width * shape_.in_channels;
  int64_t image = first_pixel / shape_.out_pixels();
  int64_t out_row = first_pixel % shape_.out_pixels() / shape_.out_width;
  int64_t out_column = first_pixel % shape_.out_width;
  int64_t i = 0;
  for (int64_t p = 0; p < pixels; ++p) {
    images_[p] = x + image * image_size;
    const int64_t top = out_row * shape_.stride.height - shape_.padding_before.height;
    const int64_t left = out_column * shape_.stride.width - shape_.padding_before.width;
    for (int64_t g = 0; g < range_.deformable_groups; ++g) {
      const int64_t first_sample = (first_pixel + p) * shape_.samples_per_pixel() +
                                   (range_.first_deformable_group + g) * shape_.taps() + range_.first_tap;
      const T* offsets = offset + 2 * first_sample;
      for (int64_t tap = 0; tap < range_.taps; ++tap, ++i) {
        row_[i] = static_cast<T>(top + taps_[tap].row) + offsets[2 * tap];
        column_[i] = static_cast<T>(left + taps_[tap].column) + offsets[2 * tap + 1];
        modulation_[i] = mask == nullptr ? T(1) : mask[first_sample + tap];
      }
    }
    if (++out_column == shape_.out_width) {
      out_column = 0;
      if (++out_row == shape_.out_height) {
        out_row = 0;
        ++image;
      }
    }
  }
  for (int64_t padding = i; padding < RoundUpToVectors(i); ++padding) {
    row_[padding] = column_[padding] = modulation_[padding] = T(0);
  }
  simd.plan_samples({i, row_, column_, modulation_}, static_cast<int32_t>(shape_.in_height),
                    static_cast<int32_t>(shape_.in_width),
                    kind_ == PlanKind::kForward ? SampleUse::kForward : SampleUse::kBackward, plan_,
                    kind_ == PlanKind::kWithGradients ? &gradient_plan_ : nullptr);
}

std::vector<ChannelSegment> SplitAtGroups(const DeformConvShape& shape, int64_t begin, int64_t end) {
  std::vector<ChannelSegment> segments;
  while (begin < end) {
    const int64_t group = begin / shape.group_in_channels();
    const int64_t deformable_group = begin / shape.deformable_group_channels();
    const int64_t next = std::min(
        {end, (group + 1) * shape.group_in_channels(), (deformable_group + 1) * shape.deformable_group_channels()});
    segments.push_back({group, deformable_group, begin, next - begin});
    begin = next;
  }
  return segments;
}

template class TilePlan<float>;
template class TilePlan<double>;
template class TilePlan<BFloat16>;
template class TilePlan<Half>;

}  // namespace dcnv2
