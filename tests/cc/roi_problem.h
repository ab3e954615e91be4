// Random problems of RoI pooling, and what the library makes of them.
#ifndef DCNV2_TESTS_CC_ROI_PROBLEM_H_
#define DCNV2_TESTS_CC_ROI_PROBLEM_H_

#include <cmath>
#include <random>
#include <vector>

#include "cc/lib/cpu/roi/deform_roi_pool.h"
#include "tests/cc/reference.h"

namespace dcnv2_test {

constexpr int64_t kBatch = 2, kChannels = 19;

struct RoiProblem {
  dcnv2::DeformRoiPoolShape shape;
  std::vector<Values> features;
  Values boxes, offset, mask, dy;
  std::vector<int32_t> box_indices, levels;
};

inline RoiProblem RandomRois(const dcnv2::DeformRoiPoolShape& shape, int seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  RoiProblem p{shape, {}, {}, {}, {}, {}, {}, {}};
  const auto fill = [&](Values* values, int64_t size) {
    for (int64_t i = 0; i < size; ++i) values->push_back(normal(generator));
  };
  for (const auto& level : shape.levels) {
    p.features.emplace_back();
    fill(&p.features.back(), shape.batch * level.height * level.width * shape.channels);
  }
  for (int64_t i = 0; i < shape.rois; ++i) {
    const double top = 80 * uniform(generator) - 10, left = 90 * uniform(generator) - 10;
    for (double edge : {top, left, top + 50 * uniform(generator), left + 50 * uniform(generator)}) {
      p.boxes.push_back(edge);
    }
    p.box_indices.push_back(i % shape.batch);
    p.levels.push_back(i / 2 % shape.levels.size());
  }
  const int64_t bins = shape.rois * shape.config.bins();
  fill(&p.offset, 2 * bins);
  fill(&p.mask, bins);
  fill(&p.dy, bins * shape.channels);
  return p;
}

// On two levels, with 3 x 2 bins.
inline RoiProblem RandomRois(int64_t rois, int64_t sampling_ratio, dcnv2::RoiConvention convention, int seed) {
  return RandomRois(
      {kBatch, kChannels, rois, {{9, 11, 0.125}, {5, 6, 0.0625}}, {3, 2, sampling_ratio, convention, 0.1}}, seed);
}

// What the library computes for maps of type S.
template <typename S>
struct RoiComputed {
  std::vector<S> y;
  std::vector<dcnv2::Compute<S>> doffset, dmask;
  std::vector<std::vector<S>> dfeatures;
};

template <typename S = double>
RoiComputed<S> Run(const RoiProblem& p, const dcnv2::ParallelFor& parallel_for) {
  using T = dcnv2::Compute<S>;
  const auto boxes = Stored<T>(p.boxes), offset = Stored<T>(p.offset), mask = Stored<T>(p.mask);
  const auto dy = Stored<S>(p.dy);
  std::vector<std::vector<S>> features;
  for (const Values& map : p.features) features.push_back(Stored<S>(map));
  RoiComputed<S> r{Uninitialized<S>(dy.size()), Uninitialized<T>(offset.size()), Uninitialized<T>(mask.size()), {}};
  dcnv2::DeformRoiPoolInputs<S> inputs{{},         boxes.data(), p.box_indices.data(), p.levels.data(), offset.data(),
                                       mask.data()};
  dcnv2::DeformRoiPoolGradients<S> gradients{{}, r.doffset.data(), r.dmask.data()};
  for (const auto& map : features) {
    inputs.features.push_back(map.data());
    r.dfeatures.push_back(Uninitialized<S>(map.size()));
  }
  for (auto& map : r.dfeatures) gradients.features.push_back(map.data());
  dcnv2::DeformRoiPoolForward<S>(p.shape, inputs, r.y.data(), parallel_for);
  dcnv2::DeformRoiPoolBackward<S>(p.shape, inputs, dy.data(), gradients, parallel_for);
  return r;
}

}  // namespace dcnv2_test

#endif  // DCNV2_TESTS_CC_ROI_PROBLEM_H_
