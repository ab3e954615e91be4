#include "cc/lib/cpu/roi/deform_roi_pool.h"

#include <cstdint>
#include <limits>
#include <vector>

#include "cc/lib/cpu/roi/deform_roi_pool_backward.h"
#include "cc/lib/cpu/roi/roi_samples.h"
#include "cc/lib/cpu/roi/roi_schedule.h"
#include "cc/lib/cpu/simd/kernels.h"

namespace dcnv2 {
namespace {

constexpr RowBand kAllRows = {0, std::numeric_limits<int64_t>::max()};

// Gradients with respect to offset and mask; every RoI owns its own.
template <typename S>
class SamplingGradient {
 public:
  using T = Compute<S>;

  SamplingGradient(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs, const S* dy,
                   const DeformRoiPoolGradients<S>& gradients)
      : shape_(shape), inputs_(inputs), dy_(dy), gradients_(gradients), samples_(shape, inputs) {}

  void ForRoi(int64_t roi) {
    const S* map = inputs_.features[inputs_.levels[roi]] + MapOffset(shape_, inputs_, roi);
    samples_.MoveToRoi(roi);
    for (int64_t bin = 0; bin < shape_.config.bins(); ++bin) {
      const int64_t target = roi * shape_.config.bins() + bin;
      samples_.MoveToBin(bin);
      samples_.Expand(kAllRows, T(1), &pixels_);
      dots_.resize(pixels_.size);
      simd_.dot_rows(dy_ + target * shape_.channels, map, shape_.channels, pixels_.index.data(), pixels_.size,
                     shape_.channels, dots_.data());
      const Sums sums = SumDots();
      if (gradients_.mask != nullptr) gradients_.mask[target] = samples_.mean() * sums.value;
      if (gradients_.offset == nullptr) continue;
      const T scale = samples_.mean() * static_cast<T>(shape_.config.gamma) *
                      (inputs_.mask == nullptr ? T(1) : inputs_.mask[target]);
      gradients_.offset[2 * target] = scale * samples_.row_axis().size * sums.row_slope;
      gradients_.offset[2 * target + 1] = scale * samples_.column_axis().size * sums.column_slope;
    }
  }

 private:
  // Of the samples' products with dy, and their derivatives.
  struct Sums {
    T value, row_slope, column_slope;
  };

  Sums SumDots() const {
    const AxisForm<T>&rows = samples_.rows(), &columns = samples_.columns();
    Sums sums = {};
    const T* dot = dots_.data();
    for (int64_t i = 0; i < rows.size(); ++i) {
      T value = 0, slope = 0;
      for (int64_t j = 0; j < columns.size(); ++j, ++dot) {
        value += columns[j].weight * *dot;
        slope += columns[j].slope * *dot;
      }
      sums.value += rows[i].weight * value;
      sums.row_slope += rows[i].slope * value;
      sums.column_slope += rows[i].weight * slope;
    }
    return sums;
  }

  const DeformRoiPoolShape& shape_;
  const DeformRoiPoolInputs<S>& inputs_;
  const S* const dy_;
  const DeformRoiPoolGradients<S>& gradients_;
  const SimdKernels<S>& simd_ = BestSimdKernels<S>();
  RoiSamples<S> samples_;
  PixelForm<T> pixels_;
  std::vector<T> dots_;
};

}  // namespace

template <typename S>
void DeformRoiPoolForward(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs, S* y,
                          const ParallelFor& parallel_for) {
  using T = Compute<S>;
  const SimdKernels<S>& simd = BestSimdKernels<S>();
  const int64_t bins = shape.config.bins();
  const std::vector<int64_t> order = NeighboursTogether(shape, inputs);
  parallel_for(shape.rois, RoiCost(shape), [&](int64_t begin, int64_t end) {
    RoiSamples<S> samples(shape, inputs);
    PixelForm<T> pixels;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t roi = order[i];
      const S* map = inputs.features[inputs.levels[roi]] + MapOffset(shape, inputs, roi);
      samples.MoveToRoi(roi);
      for (int64_t target = roi * bins; target < (roi + 1) * bins; ++target) {
        samples.MoveToBin(target - roi * bins);
        samples.Expand(kAllRows, T(1), &pixels);
        simd.combine_rows(map, shape.channels, pixels.index.data(), pixels.weight.data(), pixels.size, shape.channels,
                          inputs.mask == nullptr ? T(1) : inputs.mask[target], y + target * shape.channels);
      }
    }
  });
}

template <typename S>
void DeformRoiPoolBackward(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs, const S* dy,
                           const DeformRoiPoolGradients<S>& gradients, const ParallelFor& parallel_for) {
  if (gradients.offset != nullptr || gradients.mask != nullptr) {
    const std::vector<int64_t> order = NeighboursTogether(shape, inputs);
    parallel_for(shape.rois, RoiCost(shape), [&](int64_t begin, int64_t end) {
      SamplingGradient<S> gradient(shape, inputs, dy, gradients);
      for (int64_t i = begin; i < end; ++i) gradient.ForRoi(order[i]);
    });
  }
  RoiFeatureGradient(shape, inputs, dy, gradients.features, parallel_for);
}

#define DCNV2_INSTANTIATE(S)                                                                                 \
  template void DeformRoiPoolForward<S>(const DeformRoiPoolShape&, const DeformRoiPoolInputs<S>&, S*,        \
                                        const ParallelFor&);                                                 \
  template void DeformRoiPoolBackward<S>(const DeformRoiPoolShape&, const DeformRoiPoolInputs<S>&, const S*, \
                                         const DeformRoiPoolGradients<S>&, const ParallelFor&)
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
