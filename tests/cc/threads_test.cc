#include <string>

#include "doctest/doctest.h"
#include "tests/cc/parallel.h"
#include "tests/cc/reference.h"
#include "tests/cc/roi_problem.h"

namespace dcnv2_test {
namespace {

using dcnv2::BFloat16;
using dcnv2::Half;
using dcnv2::RoiConvention;

const dcnv2::ParallelFor kSchedules[] = {ReversedUnits, Threads(1), Threads(2), Threads(3), Threads(7)};

template <typename S>
void CheckConvolution(const ConvProblem& problem) {
  const Computed<S> whole = RunLibrary<S>(problem, Serial);
  for (const dcnv2::ParallelFor& schedule : kSchedules) {
    const Computed<S> other = RunLibrary<S>(problem, schedule);
    CHECK(SameBits(other.y, whole.y));
    CHECK(SameBits(other.dx, whole.dx));
    CHECK(SameBits(other.dkernel, whole.dkernel));
    CHECK(SameBits(other.doffset, whole.doffset));
    CHECK(SameBits(other.dmask, whole.dmask));
  }
}

TEST_CASE_TEMPLATE("convolution is the same to the bit on any number of threads", S, float, double, Half, BFloat16) {
  for (const NamedShape& named : kShapes) {
    CAPTURE(std::string(named.name));
    CheckConvolution<S>(RandomProblem(named.shape, 2, 4));
  }
}

TEST_CASE_TEMPLATE("a convolution with many tasks of every kind is the same to the bit on any number of threads", S,
                   float, Half) {
  const dcnv2::DeformConv2DShape shape{3, 13, 17, 144, 13, 17, 80, 3, 3, 1, 2, {1, 1}, {1, 1}, {1, 1}};
  CheckConvolution<S>(RandomProblem(shape, 2, 5));
}

template <typename S>
void CheckPooling(const RoiProblem& problem) {
  const RoiComputed<S> whole = Run<S>(problem, Serial);
  for (const dcnv2::ParallelFor& schedule : kSchedules) {
    const RoiComputed<S> other = Run<S>(problem, schedule);
    CHECK(SameBits(other.y, whole.y));
    CHECK(SameBits(other.doffset, whole.doffset));
    CHECK(SameBits(other.dmask, whole.dmask));
    for (size_t level = 0; level < whole.dfeatures.size(); ++level) {
      CHECK(SameBits(other.dfeatures[level], whole.dfeatures[level]));
    }
  }
}

TEST_CASE_TEMPLATE("RoI pooling is the same to the bit on any number of threads", S, float, double, Half, BFloat16) {
  for (RoiConvention convention : {RoiConvention::kAligned, RoiConvention::kMxnet}) {
    for (int64_t sampling_ratio : {0, 2}) {
      if (convention == RoiConvention::kMxnet && sampling_ratio == 0) continue;
      CheckPooling<S>(RandomRois(50, sampling_ratio, convention, 2));
    }
  }
}

TEST_CASE_TEMPLATE("RoI pooling of many channels is the same to the bit on any number of threads", S, float, Half) {
  CheckPooling<S>(RandomRois({3, 150, 40, {{9, 11, 0.125}}, {7, 7, 2, RoiConvention::kAligned, 0.1}}, 3));
}

}  // namespace
}  // namespace dcnv2_test
