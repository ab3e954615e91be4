#include "cc/lib/deform_roi_pool_cpu.h"

#include <algorithm>

#include "cc/lib/simd_kernels.h"

namespace dcnv2 {
namespace {

// One RoI on its feature map.
template <typename T>
struct Roi {
  RoiAxis<T> rows, columns;
  RoiLevel level;
  int64_t map_offset;  // of the RoI's image in its level, in elements
};

template <typename T>
Roi<T> LocateRoi(const RoiPoolShape& shape, const RoiPoolInputs<T>& inputs, int64_t index) {
  const RoiPoolConfig& config = shape.config;
  const RoiLevel& level = shape.levels[inputs.levels[index]];
  const T* box = inputs.boxes + 4 * index;
  return {MakeRoiAxis(box[0], box[2], config.pooled_height, level.height, level.spatial_scale, config.sampling_ratio,
                      config.convention),
          MakeRoiAxis(box[1], box[3], config.pooled_width, level.width, level.spatial_scale, config.sampling_ratio,
                      config.convention),
          level, int64_t{inputs.box_indices[index]} * level.height * level.width * shape.channels};
}

// All samples of a bin along one axis as a linear form of the map's rows (or columns): sum_j weight[j] * map[index[j]],
// and its derivative with respect to the bin's displacement in feature pixels. Samples that share a row share an entry.
template <typename T>
struct AxisForm {
  std::vector<int32_t> index;
  std::vector<T> weight, slope;
  int64_t inside;  // samples that are not outside the map

  void Collect(const RoiAxis<T>& axis, int64_t bin, T shift, int32_t map_size, RoiConvention convention) {
    index.clear();
    weight.clear();
    slope.clear();
    inside = 0;
    for (int64_t i = 0; i < axis.samples; ++i) {
      const T position = axis.Position(bin, i, convention) + shift;
      const AxisSample<T> sample = RoiAxisSample(position, map_size, convention);
      if (sample.validity == T(0)) continue;
      ++inside;
      Add(sample.low, sample.validity * sample.low_weight, sample.validity * sample.low_slope);
      Add(sample.high, sample.validity * sample.high_weight, sample.validity * sample.high_slope);
    }
  }

  bool IsNan() const { return !weight.empty() && weight[0] != weight[0]; }

  // An axis without samples would hide that the other one is NaN.
  void MakeNonEmpty() {
    if (index.empty()) Add(0, T(0), T(0));
  }

 private:
  void Add(int32_t at, T new_weight, T new_slope) {
    // Positions only grow from sample to sample, so equal indices are among the last two.
    const size_t size = index.size();
    for (size_t j = size - std::min<size_t>(size, 2); j < size; ++j) {
      if (index[j] != at) continue;
      weight[j] += new_weight;
      slope[j] += new_slope;
      return;
    }
    index.push_back(at);
    weight.push_back(new_weight);
    slope.push_back(new_slope);
  }
};

// The samples of one bin as linear forms of map pixels: value = sum_j weight[j] * map[index[j]], and the derivatives of
// the value with respect to the bin's displacement in feature pixels. The mean over the samples is included. Samples
// form a grid and the border rule is one per axis, so each form is a product of two axis forms.
template <typename T>
class BinSamples {
 public:
  explicit BinSamples(bool with_slopes) : with_slopes_(with_slopes) {}

  void Collect(const RoiPoolConfig& config, const Roi<T>& roi, int64_t bin, const T* displacement) {
    index_.clear();
    weight_.clear();
    row_slope_.clear();
    column_slope_.clear();
    if (roi.level.height == 0 || roi.level.width == 0) return;
    const T gamma = static_cast<T>(config.gamma);
    const T row_shift = displacement == nullptr ? T(0) : displacement[0] * gamma * roi.rows.size;
    const T column_shift = displacement == nullptr ? T(0) : displacement[1] * gamma * roi.columns.size;
    rows_.Collect(roi.rows, bin / config.pooled_width, row_shift, roi.level.height, config.convention);
    columns_.Collect(roi.columns, bin % config.pooled_width, column_shift, roi.level.width, config.convention);
    if (rows_.IsNan()) columns_.MakeNonEmpty();
    if (columns_.IsNan()) rows_.MakeNonEmpty();
    const int64_t averaged = config.convention == RoiConvention::kAligned ? roi.rows.samples * roi.columns.samples
                                                                          : rows_.inside * columns_.inside;
    const T mean = T(1) / static_cast<T>(averaged);
    for (size_t i = 0; i < rows_.index.size(); ++i) {
      const T row_weight = mean * rows_.weight[i];
      const T row_slope = mean * rows_.slope[i];
      for (size_t j = 0; j < columns_.index.size(); ++j) {
        index_.push_back(rows_.index[i] * roi.level.width + columns_.index[j]);
        weight_.push_back(row_weight * columns_.weight[j]);
        if (!with_slopes_) continue;
        row_slope_.push_back(row_slope * columns_.weight[j]);
        column_slope_.push_back(row_weight * columns_.slope[j]);
      }
    }
  }

  int64_t size() const { return index_.size(); }
  const std::vector<int32_t>& index() const { return index_; }
  const std::vector<T>& weight() const { return weight_; }
  const std::vector<T>& row_slope() const { return row_slope_; }
  const std::vector<T>& column_slope() const { return column_slope_; }

 private:
  const bool with_slopes_;
  AxisForm<T> rows_, columns_;
  std::vector<int32_t> index_;
  std::vector<T> weight_, row_slope_, column_slope_;
};

template <typename T>
const T* BinOffset(const RoiPoolShape& shape, const RoiPoolInputs<T>& inputs, int64_t roi, int64_t bin) {
  return inputs.offset == nullptr ? nullptr : inputs.offset + 2 * (roi * shape.config.bins() + bin);
}

template <typename T>
T BinMask(const RoiPoolShape& shape, const RoiPoolInputs<T>& inputs, int64_t roi, int64_t bin) {
  return inputs.mask == nullptr ? T(1) : inputs.mask[roi * shape.config.bins() + bin];
}

// Approximate cycles to pool one RoI.
int64_t RoiCost(const RoiPoolShape& shape) {
  const int64_t samples = std::max<int64_t>(shape.config.sampling_ratio * shape.config.sampling_ratio, 4);
  return shape.config.bins() * samples * (40 + shape.channels / 2);
}

template <typename T>
T Dot(const std::vector<T>& form, const std::vector<T>& values) {
  T sum = 0;
  for (size_t j = 0; j < form.size(); ++j) sum += form[j] * values[j];
  return sum;
}

// Gradients with respect to offset and mask; every RoI owns its own.
template <typename T>
void RoiSamplingGradient(const RoiPoolShape& shape, const RoiPoolInputs<T>& inputs, const T* dy, int64_t index,
                         const SimdKernels<T>& simd, BinSamples<T>* samples, std::vector<T>* dots,
                         const RoiPoolGradients<T>& gradients) {
  const int64_t bins = shape.config.bins();
  const Roi<T> roi = LocateRoi(shape, inputs, index);
  const T* map = inputs.features[inputs.levels[index]] + roi.map_offset;
  for (int64_t bin = 0; bin < bins; ++bin) {
    const int64_t target = index * bins + bin;
    samples->Collect(shape.config, roi, bin, BinOffset(shape, inputs, index, bin));
    dots->resize(samples->size());
    simd.dot_rows(dy + target * shape.channels, map, shape.channels, samples->index().data(), samples->size(),
                  shape.channels, dots->data());
    if (gradients.mask != nullptr) gradients.mask[target] = Dot(samples->weight(), *dots);
    if (gradients.offset == nullptr) continue;
    const T scale = BinMask(shape, inputs, index, bin) * static_cast<T>(shape.config.gamma);
    gradients.offset[2 * target] = scale * roi.rows.size * Dot(samples->row_slope(), *dots);
    gradients.offset[2 * target + 1] = scale * roi.columns.size * Dot(samples->column_slope(), *dots);
  }
}

// Spreads dy over channels [begin, begin + count) of one map.
template <typename T>
void SpreadOverMap(const RoiPoolShape& shape, const RoiPoolInputs<T>& inputs, const T* dy,
                   const std::vector<int64_t>& rois, int64_t begin, int64_t count, const SimdKernels<T>& simd, T* map) {
  BinSamples<T> samples(/*with_slopes=*/false);
  std::vector<T> weight;
  for (int64_t index : rois) {
    const Roi<T> roi = LocateRoi(shape, inputs, index);
    for (int64_t bin = 0; bin < shape.config.bins(); ++bin) {
      samples.Collect(shape.config, roi, bin, BinOffset(shape, inputs, index, bin));
      const T mask = BinMask(shape, inputs, index, bin);
      weight.resize(samples.size());
      for (int64_t j = 0; j < samples.size(); ++j) {
        const T w = samples.weight()[j];
        // A NaN position feeds no pixel: its offset's gradient is NaN, which is enough to notice.
        weight[j] = w == w ? mask * w : T(0);
      }
      simd.add_to_rows(dy + (index * shape.config.bins() + bin) * shape.channels + begin, samples.index().data(),
                       weight.data(), samples.size(), count, map + begin, shape.channels);
    }
  }
}

// Each task owns some channels of one map (an image of a level) and adds the map's RoIs in order.
template <typename T>
void FeatureGradient(const RoiPoolShape& shape, const RoiPoolInputs<T>& inputs, const T* dy,
                     const std::vector<T*>& dfeatures, const ParallelFor& parallel_for) {
  const SimdKernels<T>& simd = BestSimdKernels<T>();
  const int64_t level_count = shape.levels.size();
  const int64_t map_count = level_count * shape.batch;
  std::vector<std::vector<int64_t>> rois_of_map(map_count);
  for (int64_t roi = 0; roi < shape.rois; ++roi) {
    rois_of_map[inputs.levels[roi] * shape.batch + inputs.box_indices[roi]].push_back(roi);
  }
  int64_t channels_per_task = 64;
  while (channels_per_task > 16 && shape.batch * shape.channels / channels_per_task < 4) channels_per_task /= 2;
  const int64_t chunks = (shape.channels + channels_per_task - 1) / channels_per_task;
  const int64_t cost =
      RoiCost(shape) * (shape.rois / std::max<int64_t>(map_count, 1) + 1) / std::max<int64_t>(chunks, 1);
  parallel_for(map_count * chunks, cost, [&](int64_t task_begin, int64_t task_end) {
    for (int64_t task = task_begin; task < task_end; ++task) {
      const int64_t map_index = task / chunks;
      const RoiLevel& level = shape.levels[map_index / shape.batch];
      const int64_t pixels = int64_t{level.height} * level.width;
      T* map = dfeatures[map_index / shape.batch] + map_index % shape.batch * pixels * shape.channels;
      const int64_t begin = task % chunks * channels_per_task;
      const int64_t count = std::min(channels_per_task, shape.channels - begin);
      for (int64_t p = 0; p < pixels; ++p) std::fill_n(map + p * shape.channels + begin, count, T(0));
      SpreadOverMap(shape, inputs, dy, rois_of_map[map_index], begin, count, simd, map);
    }
  });
}

}  // namespace

template <typename T>
void DeformRoiPoolForward(const RoiPoolShape& shape, const RoiPoolInputs<T>& inputs, T* y,
                          const ParallelFor& parallel_for) {
  const SimdKernels<T>& simd = BestSimdKernels<T>();
  const int64_t bins = shape.config.bins();
  parallel_for(shape.rois, RoiCost(shape), [&](int64_t begin, int64_t end) {
    BinSamples<T> samples(/*with_slopes=*/false);
    for (int64_t index = begin; index < end; ++index) {
      const Roi<T> roi = LocateRoi(shape, inputs, index);
      const T* map = inputs.features[inputs.levels[index]] + roi.map_offset;
      for (int64_t bin = 0; bin < bins; ++bin) {
        samples.Collect(shape.config, roi, bin, BinOffset(shape, inputs, index, bin));
        T* out = y + (index * bins + bin) * shape.channels;
        std::fill_n(out, shape.channels, T(0));
        simd.add_weighted_rows(map, shape.channels, samples.index().data(), samples.weight().data(), samples.size(),
                               shape.channels, out);
        if (inputs.mask == nullptr) continue;
        const T mask = BinMask(shape, inputs, index, bin);
        for (int64_t c = 0; c < shape.channels; ++c) out[c] *= mask;
      }
    }
  });
}

template <typename T>
void DeformRoiPoolBackward(const RoiPoolShape& shape, const RoiPoolInputs<T>& inputs, const T* dy,
                           const RoiPoolGradients<T>& gradients, const ParallelFor& parallel_for) {
  const SimdKernels<T>& simd = BestSimdKernels<T>();
  if (gradients.offset != nullptr || gradients.mask != nullptr) {
    parallel_for(shape.rois, RoiCost(shape), [&](int64_t begin, int64_t end) {
      BinSamples<T> samples(/*with_slopes=*/gradients.offset != nullptr);
      std::vector<T> dots;
      for (int64_t index = begin; index < end; ++index) {
        RoiSamplingGradient(shape, inputs, dy, index, simd, &samples, &dots, gradients);
      }
    });
  }
  FeatureGradient(shape, inputs, dy, gradients.features, parallel_for);
}

template void DeformRoiPoolForward<float>(const RoiPoolShape&, const RoiPoolInputs<float>&, float*, const ParallelFor&);
template void DeformRoiPoolForward<double>(const RoiPoolShape&, const RoiPoolInputs<double>&, double*,
                                           const ParallelFor&);
template void DeformRoiPoolBackward<float>(const RoiPoolShape&, const RoiPoolInputs<float>&, const float*,
                                           const RoiPoolGradients<float>&, const ParallelFor&);
template void DeformRoiPoolBackward<double>(const RoiPoolShape&, const RoiPoolInputs<double>&, const double*,
                                            const RoiPoolGradients<double>&, const ParallelFor&);

}  // namespace dcnv2
