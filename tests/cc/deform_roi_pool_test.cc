#include <cmath>
#include <limits>

#include "doctest/doctest.h"
#include "tests/cc/parallel.h"
#include "tests/cc/roi_problem.h"

namespace dcnv2_test {
namespace {

using dcnv2::RoiConvention;

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
      const RoiComputed<double> computed = Run(problem, Serial);
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

TEST_CASE("a sample a pixel beyond the map feeds the edge") {
  // Maps of as many rows as one task takes, and of fewer and more.
  for (int32_t height = 1; height <= 13; ++height) {
    CAPTURE(height);
    RoiProblem problem = RandomRois({1, 1, 2, {{height, 3, 1.0}}, {1, 1, 1, RoiConvention::kAligned, 0.0}}, 6);
    // Boxes without area have their sample half a pixel up and left of them.
    const double beyond = height + 0.5;
    problem.boxes = {beyond, 1.5, beyond, 1.5, -0.5, 1.5, -0.5, 1.5};
    problem.mask = {2, 3};
    problem.dy = {1, 1};
    Values expected(3 * height, 0);
    expected[3 * (height - 1) + 1] += 2;
    expected[1] += 3;
    CHECK(Run(problem, Serial).dfeatures[0] == expected);
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
  const RoiComputed<double> computed = Run(RandomRois(0, 2, RoiConvention::kAligned, 5), Serial);
  CHECK(computed.dfeatures[0] == Values(kBatch * 9 * 11 * kChannels, 0));
}

// The problem with maps and dy that S can hold.
template <typename S>
RoiProblem Rounded(RoiProblem problem) {
  const auto round = [](Values* values) {
    for (double& value : *values) value = dcnv2::Widen(dcnv2::Narrow<S>(static_cast<float>(value)));
  };
  for (Values& map : problem.features) round(&map);
  round(&problem.dy);
  return problem;
}

template <typename S>
void CheckRounded(const std::vector<S>& received, const std::vector<float>& exact) {
  REQUIRE(received.size() == exact.size());
  for (size_t i = 0; i < exact.size(); ++i) REQUIRE(received[i].bits == dcnv2::Narrow<S>(exact[i]).bits);
}

TEST_CASE_TEMPLATE("16-bit maps are pooled in float32 and rounded once", S, dcnv2::Half, dcnv2::BFloat16) {
  // Many RoIs on few pixels, in channels that are a part of a vector, some vectors, and several tasks.
  for (int64_t channels : {3, 37, 150}) {
    CAPTURE(channels);
    const RoiProblem problem = Rounded<S>(
        RandomRois({2, channels, 60, {{9, 11, 0.125}, {30, 3, 0.0625}}, {3, 2, 2, RoiConvention::kAligned, 0.1}}, 7));
    const RoiComputed<float> exact = Run<float>(problem, Serial);
    const RoiComputed<S> computed = Run<S>(problem, Threads(2));
    CheckRounded(computed.y, exact.y);
    CHECK(SameBits(computed.doffset, exact.doffset));
    CHECK(SameBits(computed.dmask, exact.dmask));
    for (size_t level = 0; level < 2; ++level) CheckRounded(computed.dfeatures[level], exact.dfeatures[level]);
  }
}

}  // namespace
}  // namespace dcnv2_test
