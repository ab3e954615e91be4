#include <cmath>
#include <limits>
#include <random>

#include "cc/lib/deform_roi_pool_cpu.h"
#include "doctest/doctest.h"
#include "tests/cc/reference.h"

namespace dcnv2_test {
namespace {

using dcnv2::RoiConvention;
using dcnv2::RoiPoolShape;

constexpr int64_t kBatch = 2, kChannels = 19;

struct RoiProblem {
  RoiPoolShape shape;
  std::vector<Values> features;
  Values boxes, offset, mask, dy;
  std::vector<int32_t> box_indices, levels;
};

RoiProblem RandomRois(int64_t rois, int64_t sampling_ratio, RoiConvention convention, int seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  RoiProblem p{{kBatch, kChannels, rois, {{9, 11, 0.125}, {5, 6, 0.0625}}, {3, 2, sampling_ratio, convention, 0.1}},
               {},
               {},
               {},
               {},
               {},
               {},
               {}};
  const auto fill = [&](Values* values, int64_t size) {
    for (int64_t i = 0; i < size; ++i) values->push_back(normal(generator));
  };
  for (const auto& level : p.shape.levels) {
    p.features.emplace_back();
    fill(&p.features.back(), kBatch * level.height * level.width * kChannels);
  }
  for (int64_t i = 0; i < rois; ++i) {
    const double top = 80 * uniform(generator) - 10, left = 90 * uniform(generator) - 10;
    for (double edge : {top, left, top + 50 * uniform(generator), left + 50 * uniform(generator)}) {
      p.boxes.push_back(edge);
    }
    p.box_indices.push_back(i % kBatch);
    p.levels.push_back(i / 2 % 2);
  }
  fill(&p.offset, rois * 3 * 2 * 2);
  fill(&p.mask, rois * 3 * 2);
  fill(&p.dy, rois * 3 * 2 * kChannels);
  return p;
}

struct RoiComputed {
  Values y, doffset, dmask;
  std::vector<Values> dfeatures;
};

RoiComputed Run(const RoiProblem& p, const dcnv2::ParallelFor& parallel_for) {
  RoiComputed r{Values(p.dy.size(), NAN), Values(p.offset.size(), NAN), Values(p.mask.size(), NAN), {}};
  dcnv2::RoiPoolInputs<double> inputs{
      {}, p.boxes.data(), p.box_indices.data(), p.levels.data(), p.offset.data(), p.mask.data()};
  dcnv2::RoiPoolGradients<double> gradients{{}, r.doffset.data(), r.dmask.data()};
  for (const Values& map : p.features) {
    inputs.features.push_back(map.data());
    r.dfeatures.emplace_back(map.size(), NAN);
  }
  for (Values& map : r.dfeatures) gradients.features.push_back(map.data());
  dcnv2::DeformRoiPoolForward<double>(p.shape, inputs, r.y.data(), parallel_for);
  dcnv2::DeformRoiPoolBackward<double>(p.shape, inputs, p.dy.data(), gradients, parallel_for);
  return r;
}

double Loss(const RoiProblem& p) {
  const Values y = Run(p, Serial).y;
  double sum = 0;
  for (size_t i = 0; i < y.size(); ++i) sum += y[i] * p.dy[i];
  return sum;
}

TEST_CASE("RoI pooling gradients equal central differences") {
  for (RoiConvention convention : {RoiConvention::kAligned, RoiConvention::kMxnet}) {
    for (int64_t sampling_ratio : {0, 1, 2, 3}) {
      if (convention == RoiConvention::kMxnet && sampling_ratio == 0) continue;
      CAPTURE(sampling_ratio);
      const RoiProblem problem = RandomRois(8, sampling_ratio, convention, 1);
      const RoiComputed computed = Run(problem, Serial);
      const auto check = [&](const Values& gradient, auto&& select) {
        for (size_t i = 0; i < gradient.size(); i += 1 + gradient.size() / 10) {
          const double step = 1e-6;
          RoiProblem above = problem, below = problem;
          select(above)[i] += step;
          select(below)[i] -= step;
          CHECK(gradient[i] == doctest::Approx((Loss(above) - Loss(below)) / (2 * step)).epsilon(1e-5));
        }
      };
      check(computed.doffset, [](RoiProblem& p) -> Values& { return p.offset; });
      check(computed.dmask, [](RoiProblem& p) -> Values& { return p.mask; });
      check(computed.dfeatures[0], [](RoiProblem& p) -> Values& { return p.features[0]; });
      check(computed.dfeatures[1], [](RoiProblem& p) -> Values& { return p.features[1]; });
    }
  }
}

TEST_CASE("RoI pooling does not depend on how the work is split") {
  const RoiProblem problem = RandomRois(20, 2, RoiConvention::kAligned, 2);
  const RoiComputed whole = Run(problem, Serial), split = Run(problem, ReversedUnits);
  CHECK(split.y == whole.y);
  CHECK(split.doffset == whole.doffset);
  CHECK(split.dmask == whole.dmask);
  CHECK(split.dfeatures == whole.dfeatures);
}

TEST_CASE("a constant map pools to the constant, and beyond the border to zero") {
  RoiProblem problem = RandomRois(3, 2, RoiConvention::kAligned, 3);
  for (Values& map : problem.features) map.assign(map.size(), 5.0);
  problem.offset.assign(problem.offset.size(), 0.0);
  problem.mask.assign(problem.mask.size(), 0.5);
  problem.boxes = {8, 8, 40, 40, 1e6, 1e6, 2e6, 2e6, 20, 20, 20, 20};
  const Values y = Run(problem, Serial).y;
  for (int64_t i = 0; i < 6 * kChannels; ++i) {
    CHECK(y[i] == doctest::Approx(2.5));
    CHECK(y[6 * kChannels + i] == 0);
    CHECK(y[12 * kChannels + i] == doctest::Approx(2.5));
  }
}

TEST_CASE("wild boxes are harmless and NaN ones are noticed") {
  const double infinite = std::numeric_limits<double>::infinity();
  for (int64_t sampling_ratio : {0, 2}) {
    RoiProblem problem = RandomRois(4, sampling_ratio, RoiConvention::kAligned, 4);
    problem.boxes = {NAN, 0, 10, 10, -infinite, 0, infinite, 10, -1e30, -1e30, 1e30, 1e30, 50, 50, -50, -50};
    CHECK(std::isnan(Run(problem, Serial).y[0]));
    problem.boxes[1] = problem.boxes[3] = 1e9;
    CHECK(std::isnan(Run(problem, Serial).y[0]));
  }
}

TEST_CASE("no RoIs give zero gradients") {
  const RoiComputed computed = Run(RandomRois(0, 2, RoiConvention::kAligned, 5), Serial);
  CHECK(computed.dfeatures[0] == Values(kBatch * 9 * 11 * kChannels, 0));
}

}  // namespace
}  // namespace dcnv2_test
