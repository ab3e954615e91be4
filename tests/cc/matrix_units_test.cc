#include "cc/lib/cpu/simd/matrix_units.h"

#include <cmath>
#include <random>
#include <vector>

#include "cc/lib/cpu/aligned_buffer.h"
#include "doctest/doctest.h"

namespace dcnv2_test {
namespace {

using dcnv2::AlignedBuffer;
using dcnv2::BFloat16;
using dcnv2::kUnitBlock;
using dcnv2::kUnitTileStride;
using dcnv2::MatrixUnits;
using dcnv2::Widen;

// Those this process uses, and the emulated ones.
std::vector<const MatrixUnits*> AllUnits() {
  std::vector<const MatrixUnits*> all = {&dcnv2::kEmulatedAmxUnits, &dcnv2::kEmulatedAvx512Bf16Units};
  if (const MatrixUnits* best = dcnv2::BestMatrixUnits()) all.push_back(best);
  return all;
}

std::vector<BFloat16> RandomNumbers(int64_t size, int seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<BFloat16> numbers(size);
  for (BFloat16& number : numbers) number = dcnv2::Narrow<BFloat16>(normal(generator));
  return numbers;
}

TEST_CASE("units multiply as sums of products do") {
  const int64_t rows = 2 * kUnitBlock, columns = 3 * kUnitBlock, depth = 4 * kUnitBlock;
  const std::vector<BFloat16> a = RandomNumbers(rows * kUnitTileStride, 1), b = RandomNumbers(depth * columns, 2);
  std::vector<BFloat16> packed(depth * columns);
  for (int64_t first = 0; first < columns; first += kUnitBlock) {
    const BFloat16* end = dcnv2::PackPairs(
        depth, kUnitBlock, [&](int64_t k) { return b.data() + k * columns + first; }, packed.data() + first * depth);
    CHECK(end == packed.data() + (first + kUnitBlock) * depth);
  }
  for (const MatrixUnits* units : AllUnits()) {
    CAPTURE(std::string(units->name));
    for (bool accumulate : {false, true}) {
      const int64_t stride = columns + 5;
      std::vector<float> c(rows * stride, 100.0f);
      units->multiply({rows, columns, depth, a.data(), packed.data(), c.data(), stride, accumulate});
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          double expected = accumulate ? 100 : 0;
          for (int64_t k = 0; k < depth; ++k)
            expected += double{Widen(a[i * kUnitTileStride + k])} * Widen(b[k * columns + j]);
          REQUIRE(c[i * stride + j] == doctest::Approx(expected).epsilon(1e-4));
        }
        REQUIRE(c[i * stride + columns] == 100);
      }
    }
  }
}

}  // namespace
}  // namespace dcnv2_test
