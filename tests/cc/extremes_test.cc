#include <algorithm>
#include <array>
#include <limits>
#include <string>

#include "doctest/doctest.h"
#include "tests/cc/parallel.h"
#include "tests/cc/reference.h"
#include "tests/cc/roi_problem.h"

namespace dcnv2_test {
namespace {

using dcnv2::BFloat16;
using dcnv2::DeformConv2DShape;
using dcnv2::Half;
using dcnv2::RoiConvention;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Positions around every limit that an index could overflow at.
const double kWild[] = {1e5, 2147483520.0, 2147483648.0, 4294967296.0, 9.3e18, 1e30, 3e38, kInfinity};

template <typename S>
bool AllFinite(const std::vector<S>& values) {
  for (S value : values) {
    if (!std::isfinite(dcnv2::Widen(value))) return false;
  }
  return true;
}

template <typename S>
bool AllZero(const std::vector<S>& values) {
  return Widened(values) == Values(values.size(), 0.0);
}

TEST_CASE_TEMPLATE("offsets of any size sample outside and have no gradient", S, float, double, Half, BFloat16) {
  for (const NamedShape& named : kShapes) {
    CAPTURE(std::string(named.name));
    for (double wild : kWild) {
      ConvProblem problem = RandomProblem(named.shape, 1, 1);
      for (size_t i = 0; i < problem.offset.size(); ++i) problem.offset[i] = i % 3 == 0 ? -wild : wild;
      const Computed<S> computed = RunLibrary<S>(problem, Serial);
      CHECK(AllZero(computed.y));
      CHECK(AllZero(computed.dx));
      CHECK(AllZero(computed.dkernel));
      CHECK(AllZero(computed.doffset));
      CHECK(AllZero(computed.dmask));
    }
  }
}

TEST_CASE("wild offsets among ordinary ones change only what they feed") {
  const DeformConv2DShape shape{2, 9, 8, 16, 9, 8, 24, 3, 3, 1, 2, {1, 1}, {1, 1}, {1, 1}};
  const ConvProblem ordinary = RandomProblem(shape, 1, 2);
  const Computed<float> expected = RunLibrary<float>(ordinary, Serial);
  const int64_t per_pixel = 2 * shape.samples_per_pixel();
  for (double wild : {1e10, -1e30, -kInfinity, static_cast<double>(NAN)}) {
    CAPTURE(wild);
    ConvProblem problem = ordinary;
    // One tap of every fifth pixel.
    for (int64_t pixel = 0; pixel < 2 * 9 * 8; pixel += 5) problem.offset[pixel * per_pixel + pixel % per_pixel] = wild;
    const Computed<float> computed = RunLibrary<float>(problem, Threads(2));
    CHECK(AllFinite(computed.dx));
    for (int64_t pixel = 0; pixel < 2 * 9 * 8; ++pixel) {
      const float* received = computed.y.data() + pixel * shape.out_channels;
      if (pixel % 5 != 0) {
        CHECK(std::equal(received, received + shape.out_channels, expected.y.data() + pixel * shape.out_channels));
      } else {
        CHECK(std::isnan(received[0]) == std::isnan(wild));
      }
    }
  }
}

TEST_CASE("NaN and infinite features stay where they are sampled") {
  for (double bad : {kInfinity, static_cast<double>(NAN)}) {
    ConvProblem problem = RandomProblem({1, 5, 5, 3, 5, 5, 4, 1, 1, 1, 1, {1, 1}, {1, 1}, {0, 0}}, 0, 3);
    problem.x[3 * 12 + 1] = bad;
    const Computed<double> computed = RunLibrary<double>(problem, Serial);
    for (int64_t pixel = 0; pixel < 25; ++pixel) {
      CHECK(std::isfinite(computed.y[pixel * 4]) == (pixel != 12 && pixel != 11 && pixel != 7 && pixel != 6));
    }
    CHECK(AllFinite(computed.dx));
  }
}

// Several groups share a vector.
TEST_CASE("NaN and infinity in one group reach nothing of another") {
  for (const int64_t width : {1, 2, 4, 8}) {
    const int64_t channels = 8 * width + width;
    const int64_t bad_channel = 3 * width;  // the first one of the fourth group
    const DeformConv2DShape shape{1, 5, 6, channels, 5, 6, channels, 3, 3, 9, 1, {1, 1}, {1, 1}, {1, 1}};
    const ConvProblem ordinary = RandomProblem(shape, 1, 6);
    const Computed<float> expected = RunLibrary<float>(ordinary, Serial);
    const auto in_group = [&](size_t i) { return static_cast<int64_t>(i) % channels / width == 3; };
    for (double bad : {kInfinity, static_cast<double>(NAN)}) {
      CAPTURE(width);
      CAPTURE(bad);
      for (Values ConvProblem::* argument : {&ConvProblem::x, &ConvProblem::kernel, &ConvProblem::dy}) {
        ConvProblem problem = ordinary;
        for (size_t i = bad_channel; i < (problem.*argument).size(); i += channels) (problem.*argument)[i] = bad;
        const Computed<float> computed = RunLibrary<float>(problem, Serial);
        const auto check = [&](const std::vector<float>& received, const std::vector<float>& wanted) {
          for (size_t i = 0; i < wanted.size(); ++i) {
            if (!in_group(i)) CHECK(received[i] == wanted[i]);
          }
        };
        check(computed.y, expected.y);
        check(computed.dx, expected.dx);
        check(computed.dkernel, expected.dkernel);
      }
    }
  }
}

const NamedShape kDegenerate[] = {
    {"no images", {0, 5, 5, 4, 5, 5, 4, 3, 3, 1, 1, {1, 1}, {1, 1}, {1, 1}}},
    {"no output rows", {2, 2, 5, 4, 0, 3, 4, 3, 3, 1, 1, {1, 1}, {1, 1}, {0, 0}}},
    {"an empty map", {2, 0, 5, 4, 2, 5, 4, 3, 3, 1, 1, {1, 1}, {1, 1}, {2, 1}}},
    {"one pixel", {1, 1, 1, 4, 1, 1, 4, 3, 3, 1, 1, {1, 1}, {1, 1}, {1, 1}}},
    {"one pixel, one channel, one tap", {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, {1, 1}, {1, 1}, {0, 0}}},
    {"a kernel larger than the map", {2, 3, 2, 5, 3, 2, 6, 7, 9, 1, 1, {1, 1}, {1, 1}, {3, 4}}},
    {"a dilation larger than the map", {1, 4, 4, 2, 4, 4, 3, 3, 3, 1, 1, {1, 1}, {50, 9}, {50, 9}}},
    {"a stride larger than the map", {2, 4, 4, 2, 1, 1, 3, 3, 3, 1, 1, {100, 90}, {1, 1}, {1, 1}}},
    {"a group for each channel", {1, 4, 4, 6, 4, 4, 6, 3, 3, 6, 1, {1, 1}, {1, 1}, {1, 1}}},
    {"a deformable group for each channel", {1, 4, 4, 6, 4, 4, 5, 3, 3, 1, 6, {1, 1}, {1, 1}, {1, 1}}},
    {"one row", {1, 1, 40, 3, 1, 40, 3, 1, 5, 1, 1, {1, 1}, {1, 1}, {0, 2}}},
};

TEST_CASE("degenerate sizes equal the definition and have finite gradients") {
  for (const NamedShape& named : kDegenerate) {
    CAPTURE(std::string(named.name));
    const ConvProblem problem = RandomProblem(named.shape, 1, 4);
    const Values expected = ReferenceForward(problem);
    for (const dcnv2::ParallelFor& schedule : {dcnv2::ParallelFor(Serial), Threads(3)}) {
      const Computed<double> computed = RunLibrary<double>(problem, schedule);
      REQUIRE(computed.y.size() == expected.size());
      for (size_t i = 0; i < expected.size(); ++i) CHECK(computed.y[i] == doctest::Approx(expected[i]).epsilon(1e-10));
      CHECK(AllFinite(computed.dx));
      CHECK(AllFinite(computed.dkernel));
      CHECK(AllFinite(computed.doffset));
      CHECK(AllFinite(computed.dmask));
    }
  }
}

TEST_CASE_TEMPLATE("degenerate sizes are fine for 16-bit numbers too", S, Half, BFloat16) {
  for (const NamedShape& named : kDegenerate) {
    CAPTURE(std::string(named.name));
    const ConvProblem problem = RandomProblem(named.shape, 1, 4);
    // Numbers of 8 significant bits at least; sums of up to 300 products stay below 100.
    CheckClose(Widened(RunLibrary<S>(problem, Threads(3)).y), ReferenceForward(problem), 0.5);
    CHECK(AllFinite(RunLibrary<S>(problem, Serial).dx));
  }
}

TEST_CASE_TEMPLATE("RoI pooling takes any box and any offset", S, float, double, Half, BFloat16) {
  const double nan = NAN;
  for (RoiConvention convention : {RoiConvention::kAligned, RoiConvention::kMxnet}) {
    for (int64_t sampling_ratio : {0, 1, 3}) {
      if (convention == RoiConvention::kMxnet && sampling_ratio == 0) continue;
      RoiProblem problem = RandomRois(12, sampling_ratio, convention, 5);
      for (size_t i = 0; i < 8; ++i) {
        const double wild = kWild[i];
        const double boxes[][4] = {{-wild, -wild, wild, wild}, {wild, 0, wild, 9}, {9, wild, 0, -wild}};
        std::copy_n(boxes[i % 3], 4, problem.boxes.begin() + 4 * i);
      }
      for (size_t i = 0; i < problem.offset.size(); i += 5) problem.offset[i] = (i % 2 == 0 ? 1 : -1) * kWild[i % 8];
      problem.boxes[4 * 9] = nan;
      problem.offset[10 * 12] = nan;
      const RoiComputed<S> computed = Run<S>(problem, Threads(2));
      CHECK(std::isnan(dcnv2::Widen(computed.y[9 * 6 * kChannels])));
      CHECK(std::isnan(dcnv2::Widen(computed.y[10 * 6 * kChannels])));
      CHECK(SameBits(computed.y, Run<S>(problem, Serial).y));
      for (const auto& map : computed.dfeatures) CHECK(AllFinite(map));
    }
  }
}

TEST_CASE("RoI pooling takes maps and batches of any size") {
  for (const auto& [batch, channels, rois, height, width] :
       {std::array<int32_t, 5>{1, 1, 1, 1, 1}, {2, 3, 0, 4, 4}, {2, 1, 4, 1, 9}, {1, 5, 3, 0, 4}, {0, 5, 0, 4, 4}}) {
    for (int64_t sampling_ratio : {0, 2}) {
      const RoiProblem problem = RandomRois(
          {batch, channels, rois, {{height, width, 0.25}}, {2, 3, sampling_ratio, RoiConvention::kAligned, 0.1}}, 6);
      const RoiComputed<double> computed = Run<double>(problem, Threads(2));
      CHECK(AllFinite(computed.y));
      CHECK(AllFinite(computed.dfeatures[0]));
      CHECK(AllFinite(computed.doffset));
      CHECK(AllFinite(computed.dmask));
    }
  }
}

}  // namespace
}  // namespace dcnv2_test
