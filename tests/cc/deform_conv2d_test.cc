#include <cmath>
#include <limits>
#include <string>
#include <type_traits>

#include "cc/lib/cpu/conv/unit_products.h"
#include "doctest/doctest.h"
#include "tests/cc/parallel.h"
#include "tests/cc/reference.h"

namespace dcnv2_test {
namespace {

using dcnv2::DeformConv2DShape;

double Inner(const Values& a, const Values& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

TEST_CASE("the forward pass equals the definition") {
  for (const NamedShape& named : kShapes) {
    CAPTURE(std::string(named.name));
    for (double offset_scale : {0.0, 0.7, 3.0}) {
      const ConvProblem problem = RandomProblem(named.shape, offset_scale, 1);
      const Values expected = ReferenceForward(problem);
      CheckClose(RunLibrary<double>(problem, Serial).y, expected, 1e-11);
      // Float sums of up to 2000 products of order one.
      CheckClose(RunLibrary<float>(problem, Serial).y, expected, 2e-3);
    }
  }
}

// The sizes of the terms of y and dkernel.
Computed<float> SumsOfSizes(ConvProblem problem) {
  for (Values ConvProblem::* factor : {&ConvProblem::x, &ConvProblem::kernel, &ConvProblem::mask, &ConvProblem::dy}) {
    for (double& value : problem.*factor) value = std::abs(value);
  }
  return RunLibrary<float>(problem, Serial);
}

TEST_CASE_TEMPLATE("16-bit results are those of float32, rounded once", S, dcnv2::Half, dcnv2::BFloat16) {
  constexpr double kRounding = std::is_same_v<S, dcnv2::Half> ? 0x1p-11 : 0x1p-8;
  for (const NamedShape& named : kShapes) {
    CAPTURE(std::string(named.name));
    ConvProblem problem = RandomProblem(named.shape, 1.5, 4);
    for (Values ConvProblem::* argument : {&ConvProblem::x, &ConvProblem::kernel, &ConvProblem::dy}) {
      for (double& value : problem.*argument) value = dcnv2::Widen(dcnv2::Narrow<S>(static_cast<float>(value)));
    }
    const Computed<S> computed = RunLibrary<S>(problem, Serial);
    const Computed<float> wide = RunLibrary<float>(problem, Serial);
    // Matrix units take columns that are rounded, too: what that changes is at most so much of each term's size.
    const bool rounds_columns = std::is_same_v<S, dcnv2::BFloat16> && dcnv2::MatrixUnitsFor(named.shape) != nullptr;
    const Computed<float> sizes = SumsOfSizes(problem);
    const auto check = [&](const std::vector<S>& received, const std::vector<float>& expected,
                           const std::vector<float>* terms) {
      for (size_t i = 0; i < expected.size(); ++i) {
        // Compilers contract the arithmetic of the two in different places: float sums of up to 1000 products.
        double bound = kRounding * std::abs(expected[i]) + 2e-4;
        if (rounds_columns && terms != nullptr) bound += kRounding * (1 + kRounding) * (*terms)[i];
        REQUIRE(std::abs(dcnv2::Widen(received[i]) - expected[i]) <= bound);
      }
    };
    check(computed.y, wide.y, &sizes.y);
    check(computed.dx, wide.dx, nullptr);
    check(computed.dkernel, wide.dkernel, &sizes.dkernel);
    CheckClose(computed.doffset, Values(wide.doffset.begin(), wide.doffset.end()), 2e-3);
    CheckClose(computed.dmask, Values(wide.dmask.begin(), wide.dmask.end()), 2e-3);
  }
}

TEST_CASE("matrix units multiply columns that are rounded to bfloat16, and nothing else is rounded twice") {
  if (dcnv2::BestMatrixUnits() == nullptr) return;
  // Samples at integer positions with a modulation of one are bfloat16 already.
  ConvProblem problem = RandomProblem({1, 6, 7, 64, 6, 7, 40, 3, 3, 1, 2, {1, 1}, {1, 1}, {1, 1}}, 0, 11);
  problem.mask.assign(problem.mask.size(), 1.0);
  for (Values ConvProblem::* argument : {&ConvProblem::x, &ConvProblem::kernel, &ConvProblem::dy}) {
    for (double& value : problem.*argument)
      value = dcnv2::Widen(dcnv2::Narrow<dcnv2::BFloat16>(static_cast<float>(value)));
  }
  const Computed<dcnv2::BFloat16> computed = RunLibrary<dcnv2::BFloat16>(problem, Serial);
  const Computed<double> exact = RunLibrary<double>(problem, Serial);
  const auto check = [](const std::vector<dcnv2::BFloat16>& received, const std::vector<double>& expected) {
    for (size_t i = 0; i < expected.size(); ++i) {
      REQUIRE(std::abs(dcnv2::Widen(received[i]) - expected[i]) <= 0x1p-8 * std::abs(expected[i]) + 1e-4);
    }
  };
  check(computed.y, exact.y);
  check(computed.dx, exact.dx);
  check(computed.dkernel, exact.dkernel);
}

TEST_CASE("gradients equal central differences of the definition along random directions") {
  for (const NamedShape& named : kShapes) {
    CAPTURE(std::string(named.name));
    const ConvProblem problem = RandomProblem(named.shape, 1.5, 2);
    const Computed<double> computed = RunLibrary<double>(problem, Serial);
    const auto check = [&](Values ConvProblem::* argument, const Values& gradient) {
      Values direction = RandomProblem(named.shape, 1, 3).*argument;
      const double step = 1e-7;
      ConvProblem above = problem, below = problem;
      for (size_t i = 0; i < direction.size(); ++i) {
        (above.*argument)[i] += step * direction[i];
        (below.*argument)[i] -= step * direction[i];
      }
      const double expected =
          (Inner(ReferenceForward(above), problem.dy) - Inner(ReferenceForward(below), problem.dy)) / (2 * step);
      CHECK(Inner(gradient, direction) == doctest::Approx(expected).epsilon(1e-5));
    };
    check(&ConvProblem::x, computed.dx);
    check(&ConvProblem::kernel, computed.dkernel);
    check(&ConvProblem::offset, computed.doffset);
    check(&ConvProblem::mask, computed.dmask);
  }
}

TEST_CASE("every pixel of the image gradient adds up all samples that read the pixel") {
  for (const NamedShape& named : kShapes) {
    CAPTURE(std::string(named.name));
    const ConvProblem problem = RandomProblem(named.shape, 1.5, 7);
    const Values expected = ReferenceImageGradient(problem);
    CheckClose(RunLibrary<double>(problem, Serial).dx, expected, 1e-11);
    // Float sums of up to 1000 products of order one.
    CheckClose(RunLibrary<float>(problem, Serial).dx, expected, 2e-3);
  }
}

TEST_CASE("version one is a modulation of one") {
  ConvProblem problem = RandomProblem(kShapes[0].shape, 1, 5);
  problem.mask.assign(problem.mask.size(), 1.0);
  const Computed<double> modulated = RunLibrary<double>(problem, Serial);
  const Computed<double> plain = RunLibrary<double>(problem, Serial, /*modulated=*/false);
  CHECK(plain.y == modulated.y);
  CHECK(plain.dx == modulated.dx);
  CHECK(plain.dkernel == modulated.dkernel);
  CHECK(plain.doffset == modulated.doffset);
}

// One pixel, one tap, one channel: y = x(offset) on a 2x3 map.
ConvProblem OneSample(double row, double column) {
  const DeformConv2DShape shape{1, 2, 3, 1, 1, 1, 1, 1, 1, 1, 1, {4, 4}, {1, 1}, {0, 0}};
  return {shape, {1, 2, 4, 8, 16, 32}, {1}, {row, column}, {1}, {1}};
}

TEST_CASE("a sample at or beyond the border has no value and no gradient") {
  const double far = 1e30, infinite = std::numeric_limits<double>::infinity();
  for (double outside : {-1.0, -1.5, -far, far, infinite, -infinite}) {
    CAPTURE(outside);
    const Computed<float> computed = RunLibrary<float>(OneSample(outside, 1), Serial);
    CHECK(computed.y[0] == 0);
    CHECK(computed.dmask[0] == 0);
    CHECK(computed.doffset == std::vector<float>{0, 0});
    CHECK(computed.dx == std::vector<float>(6, 0));
  }
  CHECK(RunLibrary<float>(OneSample(2, 1), Serial).doffset == std::vector<float>{0, 0});
  CHECK(RunLibrary<float>(OneSample(0, 3), Serial).doffset == std::vector<float>{0, 0});
}

TEST_CASE("between the border and the outside the map fades to zero") {
  const Computed<double> above = RunLibrary<double>(OneSample(-0.75, 1), Serial);
  CHECK(above.y[0] == doctest::Approx(0.25 * 2));
  CHECK(above.doffset[0] == doctest::Approx(2));
  const Computed<double> corner = RunLibrary<double>(OneSample(1.5, 2.5), Serial);
  CHECK(corner.y[0] == doctest::Approx(0.25 * 32));
  CHECK(corner.doffset[0] == doctest::Approx(-0.5 * 32));
}

TEST_CASE("at an integer position the gradient is the right-hand one") {
  const Computed<double> computed = RunLibrary<double>(OneSample(0, 1), Serial);
  CHECK(computed.y[0] == 2);
  CHECK(computed.doffset == std::vector<double>{16 - 2, 4 - 2});
  const Computed<double> last = RunLibrary<double>(OneSample(1, 2), Serial);
  CHECK(last.y[0] == 32);
  CHECK(last.doffset == std::vector<double>{-32, -32});
}

TEST_CASE("a NaN offset reaches the output and its own gradients, and no pixel") {
  for (const ConvProblem& problem : {OneSample(NAN, 0), OneSample(0, NAN), OneSample(NAN, 1e30)}) {
    const Computed<float> computed = RunLibrary<float>(problem, Serial);
    CHECK(std::isnan(computed.y[0]));
    CHECK(std::isnan(computed.dkernel[0]));
    CHECK(std::isnan(computed.doffset[0]));
    CHECK(std::isnan(computed.dmask[0]));
    CHECK(computed.dx == std::vector<float>(6, 0));
  }
}

TEST_CASE("a NaN modulation outside the map reaches the output and no gradient but the kernel's") {
  ConvProblem problem = OneSample(5, 0);
  problem.mask = {NAN};
  const Computed<float> computed = RunLibrary<float>(problem, Serial);
  CHECK(std::isnan(computed.y[0]));
  CHECK(std::isnan(computed.dkernel[0]));
  CHECK(computed.dx == std::vector<float>(6, 0));
  CHECK(computed.doffset == std::vector<float>{0, 0});
  CHECK(computed.dmask == std::vector<float>{0});
}

TEST_CASE("no images, no outputs and an empty map are fine") {
  DeformConv2DShape shape = kShapes[0].shape;
  shape.batch = 0;
  CHECK(RunLibrary<float>(RandomProblem(shape, 1, 6), Serial).dkernel == std::vector<float>(9 * 16 * 32, 0));
  shape = kShapes[0].shape;
  shape.out_height = 0;
  CHECK(RunLibrary<float>(RandomProblem(shape, 1, 6), Serial).dx == std::vector<float>(2 * 7 * 9 * 16, 0));
  shape = kShapes[0].shape;
  shape.in_width = 0;
  CHECK(RunLibrary<float>(RandomProblem(shape, 1, 6), Serial).y == std::vector<float>(2 * 7 * 9 * 32, 0));
}

}  // namespace
}  // namespace dcnv2_test
