// Conversions of 16-bit numbers, one by one and in vectors.
#include "cc/lib/storage.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "cc/lib/cpu/simd/kernels.h"
#include "doctest/doctest.h"

namespace {

using dcnv2::BFloat16;
using dcnv2::Half;
using dcnv2::Narrow;
using dcnv2::Widen;

// The value of sign, exponent and fraction as the standard defines it.
double Value(uint16_t bits, int exponent_bits) {
  const int fraction_bits = 15 - exponent_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = bits >> fraction_bits & ((1 << exponent_bits) - 1);
  const int fraction = bits & ((1 << fraction_bits) - 1);
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::nan("");
  }
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits);
}

bool Same(double a, double b) { return (std::isnan(a) && std::isnan(b)) || a == b; }

template <typename S>
struct Format;
template <>
struct Format<Half> {
  static constexpr int kExponentBits = 5;
};
template <>
struct Format<BFloat16> {
  static constexpr int kExponentBits = 8;
};

template <typename S>
std::vector<S> AllNumbers() {
  std::vector<S> numbers;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) numbers.push_back({static_cast<uint16_t>(bits)});
  return numbers;
}

}  // namespace

TEST_CASE_TEMPLATE("every 16-bit number is widened exactly and narrowed back", S, Half, BFloat16) {
  for (const S number : AllNumbers<S>()) {
    const float wide = Widen(number);
    REQUIRE(Same(wide, Value(number.bits, Format<S>::kExponentBits)));
    if (std::isnan(wide)) {
      REQUIRE(std::isnan(Widen(Narrow<S>(wide))));
    } else {
      REQUIRE(Narrow<S>(wide).bits == number.bits);
    }
  }
}

TEST_CASE_TEMPLATE("numbers between two of 16 bits go to the nearer, from the middle to the even one", S, Half,
                   BFloat16) {
  for (const S number : AllNumbers<S>()) {
    const S next = {static_cast<uint16_t>(number.bits + 1)};
    const float low = Widen(number), high = Widen(next);
    if (!std::isfinite(low) || !std::isfinite(high) || std::signbit(low) != std::signbit(high)) continue;
    const float middle = low + (high - low) / 2;
    REQUIRE(Narrow<S>(middle).bits == (number.bits % 2 == 0 ? number.bits : next.bits));
    REQUIRE(Narrow<S>(std::nextafter(middle, low)).bits == number.bits);
    REQUIRE(Narrow<S>(std::nextafter(middle, high)).bits == next.bits);
  }
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(Widen(Narrow<S>(infinity)) == infinity);
  CHECK(Widen(Narrow<S>(-std::numeric_limits<float>::max())) == -infinity);
}

TEST_CASE_TEMPLATE("vectors widen like single numbers", S, Half, BFloat16) {
  const std::vector<S> numbers = AllNumbers<S>();
  std::vector<float> sums(numbers.size(), 0.0f);
  const int32_t row = 0;
  const float weight = 1;
  dcnv2::BestSimdKernels<S>().add_to_rows(numbers.data(), &row, &weight, 1, numbers.size(), sums.data(), 0);
  for (size_t i = 0; i < numbers.size(); ++i) REQUIRE(Same(sums[i], Widen(numbers[i])));
}

TEST_CASE_TEMPLATE("vectors are rounded like single numbers", S, Half, BFloat16) {
  const std::vector<S> numbers = AllNumbers<S>();
  std::vector<S> products(numbers.size());
  const int32_t row = 0;
  for (const float scale : {1.0f, 1.0009765f, 0.3f, 7e-4f}) {
    const float weight = 1;
    dcnv2::BestSimdKernels<S>().combine_rows(numbers.data(), 0, &row, &weight, 1, numbers.size(), scale,
                                             products.data());
    for (size_t i = 0; i < numbers.size(); ++i) {
      REQUIRE(Same(Widen(products[i]), Widen(Narrow<S>(scale * Widen(numbers[i])))));
    }
    std::vector<float> wide;
    for (const S number : numbers) wide.push_back(scale * Widen(number));
    std::vector<S> rounded(numbers.size());
    dcnv2::BestSimdKernels<S>().narrow(wide.data(), wide.size(), rounded.data());
    for (size_t i = 0; i < wide.size(); ++i) REQUIRE(Same(Widen(rounded[i]), Widen(Narrow<S>(wide[i]))));
  }
}
