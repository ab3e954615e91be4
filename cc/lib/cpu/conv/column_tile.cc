#include "cc/lib/cpu/conv/column_tile.h"

namespace dcnv2 {
namespace {

// Half a tile: two rows of it then share most of what they sample, and are whole register blocks all the same.
int64_t StripWidth(const DeformConv2DShape& shape) {
  constexpr int64_t kWidth = kTilePixels / 2;
  constexpr int64_t kRegisterBlock = 14;
  constexpr int64_t kRowElements = 16 * 1024;
  const bool fits = shape.in_width * shape.in_channels <= kRowElements;
  if (fits || shape.out_width < 2 * kWidth) return std::max<int64_t>(shape.out_width, 1);
  const int64_t strips = CeilDiv(shape.out_width, kWidth);
  return CeilDiv(CeilDiv(shape.out_width, strips), kRegisterBlock) * kRegisterBlock;
}

}  // namespace

PixelOrder::PixelOrder(const DeformConv2DShape& shape)
    : batch_(shape.batch), height_(shape.out_height), width_(shape.out_width), strip_width_(StripWidth(shape)) {}

int64_t PixelOrder::RunLength(int64_t ordinal) const {
  if (strip_width_ == width_) return size() - ordinal;
  const int64_t column = Locate(ordinal).column;
  return StripEnd(column) - column;
}

PixelPosition PixelOrder::Locate(int64_t ordinal) const {
  const int64_t in_image = ordinal % (height_ * width_);
  const int64_t strip_begin = in_image / (height_ * strip_width_) * strip_width_;
  const int64_t in_strip = in_image - strip_begin * height_;
  const int64_t width = StripEnd(strip_begin) - strip_begin;
  return {in_strip / width, strip_begin + in_strip % width};
}

bool PixelOrder::Advance(PixelPosition* position) const {
  const int64_t strip_end = StripEnd(position->column);
  if (++position->column < strip_end) return false;
  if (++position->row < height_) {
    position->column = StripBegin(strip_end - 1);
    return false;
  }
  position->row = 0;
  if (strip_end < width_) return false;
  position->column = 0;
  return true;
}

template <typename S>
TilePlan<S>::TilePlan(const DeformConv2DShape& shape, const SampleRange& range, int64_t max_pixels, PlanKind kind)
    : shape_(shape),
      range_(range),
      order_(shape),
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
void TilePlan<S>::Update(const SimdKernels<S>& simd, const S* x, const T* offset, const T* mask, int64_t first_ordinal,
                         int64_t count) {
  const int64_t image_size = shape_.in_height * shape_.in_width * shape_.in_channels;
  int64_t image = first_ordinal / shape_.out_pixels();
  PixelPosition at = order_.Locate(first_ordinal);
  pixels_.resize(count);
  int64_t i = 0;
  for (int64_t p = 0; p < count; ++p) {
    images_[p] = x + image * image_size;
    pixels_[p] = image * shape_.out_pixels() + at.row * shape_.out_width + at.column;
    const int64_t top = at.row * shape_.stride.height - shape_.padding_before.height;
    const int64_t left = at.column * shape_.stride.width - shape_.padding_before.width;
    for (int64_t g = 0; g < range_.deformable_groups; ++g) {
      const int64_t first_sample = pixels_[p] * shape_.samples_per_pixel() +
                                   (range_.first_deformable_group + g) * shape_.taps() + range_.first_tap;
      const T* offsets = offset + 2 * first_sample;
      for (int64_t tap = 0; tap < range_.taps; ++tap, ++i) {
        row_[i] = static_cast<T>(top + taps_[tap].row) + offsets[2 * tap];
        column_[i] = static_cast<T>(left + taps_[tap].column) + offsets[2 * tap + 1];
        modulation_[i] = mask == nullptr ? T(1) : mask[first_sample + tap];
      }
    }
    if (order_.Advance(&at)) ++image;
  }
  for (int64_t padding = i; padding < RoundUpToVectors(i); ++padding) {
    row_[padding] = column_[padding] = modulation_[padding] = T(0);
  }
  simd.plan_samples({i, row_, column_, modulation_}, static_cast<int32_t>(shape_.in_height),
                    static_cast<int32_t>(shape_.in_width),
                    kind_ == PlanKind::kForward ? SampleUse::kForward : SampleUse::kBackward, plan_,
                    kind_ == PlanKind::kWithGradients ? &gradient_plan_ : nullptr);
}

std::vector<ChannelSegment> SplitAtGroups(const DeformConv2DShape& shape, int64_t begin, int64_t end) {
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

std::vector<ChannelRun> RunsOfTaps(const SampleRange& samples, const std::vector<ChannelSegment>& segments,
                                   int64_t first_tap, int64_t taps, int64_t width) {
  std::vector<ChannelRun> runs;
  for (int64_t t = 0; t < taps; ++t) {
    for (const ChannelSegment& segment : segments) {
      runs.push_back({samples.Index(segment.deformable_group, first_tap + t), segment.begin, segment.count,
                      t * width + segment.begin - segments.front().begin});
    }
  }
  return runs;
}

bool HasNarrowGroups(const DeformConv2DShape& shape, int64_t lanes) {
  const int64_t width = shape.group_in_channels();
  return shape.groups > 1 && shape.group_out_channels() == width && width < lanes && lanes % width == 0;
}

#define DCNV2_INSTANTIATE(S) template class TilePlan<S>
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
