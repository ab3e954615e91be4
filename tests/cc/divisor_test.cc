#include "cc/lib/gpu/common/divisor.h"

#include <cstdint>
#include <initializer_list>

#include "doctest/doctest.h"

namespace dcnv2 {
namespace {

TEST_CASE("quotients by multiplication are exact") {
  constexpr int64_t kEnd = int64_t{1} << 31;
  for (int bit = 0; bit < 31; ++bit) {
    for (const int64_t divisor : {(int64_t{1} << bit) - 1, int64_t{1} << bit, (int64_t{1} << bit) + 1, 5 * kEnd / 7}) {
      if (divisor < 1) continue;
      const Divisor by(divisor);
      // Where a quotient changes is where it may be wrong.
      for (int64_t multiple = 0; multiple < kEnd; multiple += divisor * (kEnd / divisor / 50 + 1)) {
        for (const int64_t n : {multiple - 1, multiple, multiple + divisor - 1}) {
          if (n < 0 || n >= kEnd) continue;
          REQUIRE(by.Quotient(static_cast<uint32_t>(n)) == n / divisor);
        }
      }
      REQUIRE(by.Quotient(static_cast<uint32_t>(kEnd - 1)) == (kEnd - 1) / divisor);
    }
  }
}

TEST_CASE("quotients of large numbers are exact") {
  CHECK(Divisor(7).Quotient(int64_t{1} << 40) == (int64_t{1} << 40) / 7);
  CHECK(Divisor(int64_t{1} << 33).Quotient((int64_t{5} << 33) + 1) == 5);
}

}  // namespace
}  // namespace dcnv2
