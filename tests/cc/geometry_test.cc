#include "cc/lib/geometry.h"

#include <limits>
#include <string>

#include "doctest/doctest.h"

namespace dcnv2_test {
namespace {

using dcnv2::Padding;
using dcnv2::WindowExtent;

constexpr int64_t kInt32 = std::numeric_limits<int32_t>::max();
constexpr int64_t kInt64 = std::numeric_limits<int64_t>::max();

TEST_CASE("a product that does not fit is refused wherever it overflows") {
  int64_t product = -1;
  CHECK(dcnv2::CheckedProduct({}, &product));
  CHECK(product == 1);
  CHECK(dcnv2::CheckedProduct({kInt32, kInt32, 2}, &product));
  CHECK(product == 2 * kInt32 * kInt32);
  CHECK(dcnv2::CheckedProduct({kInt64, 1, 1}, &product));
  CHECK_FALSE(dcnv2::CheckedProduct({kInt32, kInt32, 4}, &product));
  CHECK_FALSE(dcnv2::CheckedProduct({2, kInt64}, &product));
  CHECK_FALSE(dcnv2::CheckedProduct({int64_t{1} << 32, int64_t{1} << 32}, &product));
  CHECK(dcnv2::CheckedProduct({0, kInt64, kInt64}, &product));
  CHECK(product == 0);
}

TEST_CASE("the window's extent is computed in 64 bits") {
  WindowExtent extent;
  CHECK(dcnv2::ComputeWindowExtent(kInt32, 1, 1, kInt32, Padding::kExplicit, kInt32, kInt32, &extent));
  CHECK(extent.out_size == 3 * kInt32);
  CHECK(extent.padding_before == kInt32);
  CHECK(dcnv2::ComputeWindowExtent(kInt32, kInt32, 1, kInt32, Padding::kSame, 0, 0, &extent));
  CHECK(extent.out_size == kInt32);
  CHECK(extent.padding_before == (kInt32 - 1) * kInt32 / 2);
  CHECK(dcnv2::ComputeWindowExtent(1, 1, kInt32, 1, Padding::kSame, 0, 0, &extent));
  CHECK(extent.out_size == 1);
}

TEST_CASE("operands of the window that could overflow are refused") {
  const auto accepted = [](int64_t in_size, int64_t kernel, int64_t stride, int64_t dilation, int64_t before,
                           int64_t after) {
    WindowExtent extent;
    return dcnv2::ComputeWindowExtent(in_size, kernel, stride, dilation, Padding::kExplicit, before, after, &extent);
  };
  CHECK(accepted(8, 3, 1, 1, 0, 0));
  for (int64_t bad : {int64_t{-1}, kInt32 + 1, kInt64}) {
    CAPTURE(bad);
    CHECK_FALSE(accepted(bad, 3, 1, 1, 0, 0));
    CHECK_FALSE(accepted(8, bad, 1, 1, 0, 0));
    CHECK_FALSE(accepted(8, 3, bad, 1, 0, 0));
    CHECK_FALSE(accepted(8, 3, 1, bad, 0, 0));
    CHECK_FALSE(accepted(8, 3, 1, 1, bad, 0));
    CHECK_FALSE(accepted(8, 3, 1, 1, 0, bad));
  }
}

TEST_CASE("a window fits until it is more than a stride larger than the padded input") {
  WindowExtent extent;
  CHECK(dcnv2::ComputeWindowExtent(4, 5, 1, 1, Padding::kValid, 0, 0, &extent));
  CHECK(extent.out_size == 0);
  CHECK_FALSE(dcnv2::ComputeWindowExtent(3, 5, 1, 1, Padding::kValid, 0, 0, &extent));
  CHECK(dcnv2::ComputeWindowExtent(3, 5, 1, 1, Padding::kExplicit, 1, 1, &extent));
  CHECK(extent.out_size == 1);
}

TEST_CASE("same padding is split as TensorFlow splits it") {
  WindowExtent extent;
  CHECK(dcnv2::ComputeWindowExtent(6, 3, 2, 1, Padding::kSame, 0, 0, &extent));
  CHECK(extent.out_size == 3);
  CHECK(extent.padding_before == 0);
  CHECK(dcnv2::ComputeWindowExtent(7, 3, 2, 2, Padding::kSame, 0, 0, &extent));
  CHECK(extent.out_size == 4);
  CHECK(extent.padding_before == 2);
}

TEST_CASE("maps are indexable as long as every pixel has an exact position and a 32-bit index") {
  constexpr int64_t side = int64_t{1} << 24;
  CHECK(dcnv2::IsIndexableMap(0, 0));
  CHECK(dcnv2::IsIndexableMap(side, 127));
  CHECK_FALSE(dcnv2::IsIndexableMap(side, 128));
  CHECK_FALSE(dcnv2::IsIndexableMap(side + 1, 1));
  CHECK_FALSE(dcnv2::IsIndexableMap(1, side + 1));
  CHECK_FALSE(dcnv2::IsIndexableMap(kInt64, kInt64));
  CHECK(dcnv2::IsIndexableMap(32768, 65535));
}

TEST_CASE("problems beyond 64 bits are refused, those beyond 32 are not") {
  // Channels, batch and pixels beyond 2^31 elements.
  dcnv2::DeformConv2DShape shape{1 << 20, 1024, 1024, 1024, 1024, 1024, 1024, 3, 3, 1, 1, {1, 1}, {1, 1}, {1, 1}};
  CHECK(dcnv2::CheckIndexable(shape) == "");
  shape.out_height = shape.out_width = kInt32;
  CHECK(dcnv2::CheckIndexable(shape).find("more than 2^63 - 1 elements") != std::string::npos);
  shape = {1, 1 << 16, 1 << 16, 1, 1, 1, 1, 1, 1, 1, 1, {1, 1}, {1, 1}, {0, 0}};
  CHECK(dcnv2::CheckIndexable(shape).find("an area of more than 2^31 - 1") != std::string::npos);
}

}  // namespace
}  // namespace dcnv2_test
