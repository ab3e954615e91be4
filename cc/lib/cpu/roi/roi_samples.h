// What the samples of a bin read: linear forms of map pixels.
//
// Samples form a grid and the border rule is one per axis, so the mean over the samples is a product of two axis forms:
//   value = mean * sum_i rows.weight[i] * sum_j columns.weight[j] * map[rows.index[i], columns.index[j]],
// and its derivatives with respect to the bin's displacement in feature pixels have slopes in place of weights.
#ifndef DCNV2_CC_LIB_CPU_ROI_ROI_SAMPLES_H_
#define DCNV2_CC_LIB_CPU_ROI_ROI_SAMPLES_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "cc/lib/deform_roi_pool.h"
#include "cc/lib/roi_geometry.h"

namespace dcnv2 {

// All samples of a bin along one axis. Samples that share a row share an entry.
template <typename T>
class AxisForm {
 public:
  void Collect(const RoiAxis<T>& axis, int64_t bin, T shift, int32_t map_size, RoiConvention convention) {
    size_ = inside_ = 0;
    if (static_cast<int64_t>(entries_.size()) < 2 * axis.samples) entries_.resize(2 * axis.samples);
    const int64_t first = axis.FirstSample(bin, shift);
    for (int64_t i = first; i < first + axis.samples; ++i) {
      const T position = axis.Position(bin, i, convention) + shift;
      const AxisSample<T> sample = RoiAxisSample(position, map_size, convention);
      if (sample.validity == T(0)) continue;
      ++inside_;
      Add({sample.low, sample.validity * sample.low_weight, sample.validity * sample.low_slope});
      Add({sample.high, sample.validity * sample.high_weight, sample.validity * sample.high_slope});
    }
  }

  struct Entry {
    int32_t index;
    T weight, slope;
  };
  int64_t size() const { return size_; }
  const Entry& operator[](int64_t i) const { return entries_[i]; }

  // Samples that are not outside the map.
  int64_t inside() const { return inside_; }

  bool IsNan() const { return size_ > 0 && entries_[0].weight != entries_[0].weight; }

  // An axis without samples would hide that the other one is NaN.
  void MakeNonEmpty() {
    if (size_ > 0) return;
    if (entries_.empty()) entries_.resize(1);
    entries_[size_++] = {0, T(0), T(0)};
  }

 private:
  void Add(const Entry& entry) {
    // Positions change steadily from sample to sample, so equal indices are among the last two. Where a box is inverted
    // they may not be; an index then has several entries, whose sum is the same.
    for (int64_t j = std::max<int64_t>(size_ - 2, 0); j < size_; ++j) {
      if (entries_[j].index != entry.index) continue;
      entries_[j].weight += entry.weight;
      entries_[j].slope += entry.slope;
      return;
    }
    entries_[size_++] = entry;
  }

  std::vector<Entry> entries_;
  int64_t size_ = 0, inside_ = 0;
};

// A linear form of the pixels of a map.
template <typename T>
struct PixelForm {
  std::vector<int32_t> index;  // the first `size` elements are in use
  std::vector<T> weight;
  int64_t size = 0;

  void Reserve(int64_t capacity) {
    if (capacity <= static_cast<int64_t>(index.size())) return;
    index.resize(capacity);
    weight.resize(capacity);
  }
};

// Rows [begin, end) of a map.
struct RowBand {
  int64_t begin, end;
};

// Visits the RoIs, and the bins of each.
template <typename S>
class RoiSamples {
 public:
  using T = Compute<S>;

  RoiSamples(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs)
      : shape_(shape),
        inputs_(inputs),
        rows_(inputs.offset == nullptr ? shape.config.pooled_height : 1),
        columns_(inputs.offset == nullptr ? shape.config.pooled_width : 1) {}

  void MoveToRoi(int64_t roi) {
    const DeformRoiPoolConfig& config = shape_.config;
    const T* box = inputs_.boxes + 4 * roi;
    level_ = &shape_.levels[inputs_.levels[roi]];
    row_axis_ = MakeRoiAxis(box[0], box[2], config.pooled_height, level_->height, level_->spatial_scale,
                            config.sampling_ratio, config.convention);
    column_axis_ = MakeRoiAxis(box[1], box[3], config.pooled_width, level_->width, level_->spatial_scale,
                               config.sampling_ratio, config.convention);
    if (level_->height == 0 || level_->width == 0) row_axis_.samples = column_axis_.samples = 0;
    if (inputs_.offset != nullptr) {
      offset_ = inputs_.offset + 2 * roi * config.bins();
      return;
    }
    // Without displacements the bins of a row share their rows, those of a column their columns.
    for (int64_t i = 0; i < config.pooled_height; ++i) {
      rows_[i].Collect(row_axis_, i, T(0), level_->height, config.convention);
    }
    for (int64_t j = 0; j < config.pooled_width; ++j) {
      columns_[j].Collect(column_axis_, j, T(0), level_->width, config.convention);
    }
  }

  void MoveToBin(int64_t bin) {
    const DeformRoiPoolConfig& config = shape_.config;
    const int64_t i = bin / config.pooled_width, j = bin % config.pooled_width;
    bin_rows_ = &rows_[offset_ == nullptr ? i : 0];
    bin_columns_ = &columns_[offset_ == nullptr ? j : 0];
    if (offset_ != nullptr) {
      bin_rows_->Collect(row_axis_, i, RowShift(bin), level_->height, config.convention);
      bin_columns_->Collect(column_axis_, j, ColumnShift(bin), level_->width, config.convention);
    }
    if (bin_rows_->IsNan()) bin_columns_->MakeNonEmpty();
    if (bin_columns_->IsNan()) bin_rows_->MakeNonEmpty();
  }

  // The axes of the RoI.
  const RoiAxis<T>& row_axis() const { return row_axis_; }
  const RoiAxis<T>& column_axis() const { return column_axis_; }

  // The forms of the bin.
  const AxisForm<T>& rows() const { return *bin_rows_; }
  const AxisForm<T>& columns() const { return *bin_columns_; }
  bool IsNan() const { return rows().IsNan() || columns().IsNan(); }
  T mean() const {
    const bool all = shape_.config.convention == RoiConvention::kAligned;
    const int64_t count =
        all ? row_axis_.total_samples * column_axis_.total_samples : rows().inside() * columns().inside();
    return T(1) / static_cast<T>(std::max<int64_t>(count, 1));
  }

  // The bin's value times `scale`, as far as it depends on the pixels of a band, which are counted from its first row.
  void Expand(const RowBand& band, T scale, PixelForm<T>* form) const {
    form->Reserve(rows().size() * columns().size());
    int32_t* index = form->index.data();
    T* weight = form->weight.data();
    const T factor = scale * mean();
    for (int64_t i = 0; i < rows().size(); ++i) {
      const auto& row = rows()[i];
      if (row.index < band.begin || row.index >= band.end) continue;
      const T row_weight = factor * row.weight;
      const int32_t first = static_cast<int32_t>(row.index - band.begin) * level_->width;
      for (int64_t j = 0; j < columns().size(); ++j) {
        *index++ = first + columns()[j].index;
        *weight++ = row_weight * columns()[j].weight;
      }
    }
    form->size = index - form->index.data();
  }

  // The rows that samples of the RoI may touch. None if all of them are NaN or outside.
  RowBand Rows() const {
    Span all = BinSpan(0);
    for (int64_t bin = 1; bin < shape_.config.bins(); ++bin) {
      const Span span = BinSpan(bin);
      all = {std::min(all.low, span.low), std::max(all.high, span.high)};
    }
    const T height = static_cast<T>(level_->height);
    if (level_->height == 0 || !(all.low <= height && all.high >= T(-1))) return {0, 0};
    return {static_cast<int64_t>(std::min(std::max(all.low, T(0)), height - T(1))),
            static_cast<int64_t>(std::min(all.high + T(2), height))};
  }

  // Whether samples of a bin, which need not be the current one, may touch a band. Those that are NaN don't.
  bool MayTouch(int64_t bin, const RowBand& band) const {
    const Span span = BinSpan(bin);
    return span.low <= static_cast<T>(band.end) && span.high + T(1) >= static_cast<T>(band.begin);
  }

 private:
  // Of row positions; those beyond the map by a pixel or less touch its edge.
  struct Span {
    T low, high;
  };

  // A little more than the positions, which a compiler may round differently here. Both ends are infinite, the wrong
  // way round, where positions are NaN.
  Span BinSpan(int64_t bin) const {
    const int64_t i = bin / shape_.config.pooled_width;
    const T shift = RowShift(bin);
    const T first = row_axis_.Position(i, 0, shape_.config.convention) + shift;
    const T last = row_axis_.Position(i, row_axis_.total_samples - 1, shape_.config.convention) + shift;
    constexpr T kInfinity = std::numeric_limits<T>::infinity();
    constexpr T kSlack = T(0.0625);
    return first == first && last == last ? Span{std::min(first, last) - kSlack, std::max(first, last) + kSlack}
                                          : Span{kInfinity, -kInfinity};
  }

  T RowShift(int64_t bin) const {
    return offset_ == nullptr ? T(0) : offset_[2 * bin] * static_cast<T>(shape_.config.gamma) * row_axis_.size;
  }
  T ColumnShift(int64_t bin) const {
    return offset_ == nullptr ? T(0) : offset_[2 * bin + 1] * static_cast<T>(shape_.config.gamma) * column_axis_.size;
  }

  const DeformRoiPoolShape& shape_;
  const DeformRoiPoolInputs<S>& inputs_;
  const RoiLevel* level_ = nullptr;
  RoiAxis<T> row_axis_, column_axis_;
  const T* offset_ = nullptr;  // of the RoI
  std::vector<AxisForm<T>> rows_, columns_;
  AxisForm<T>*bin_rows_ = nullptr, *bin_columns_ = nullptr;
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_ROI_ROI_SAMPLES_H_
