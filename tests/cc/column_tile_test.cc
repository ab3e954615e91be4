#include "cc/lib/cpu/conv/column_tile.h"

#include <vector>

#include "doctest/doctest.h"
#include "tests/cc/reference.h"

namespace {

dcnv2::DeformConv2DShape MapOf(int64_t batch, int64_t height, int64_t width, int64_t channels) {
  return {batch, height, width, channels, height, width, 3, 3, 3, 1, 1, {1, 1}, {1, 1}, {1, 1}};
}

}  // namespace

TEST_CASE("every output pixel is visited once, whether the map is cut into strips or not") {
  for (const int64_t width : {1, 83, 84, 85, 100, 168, 301}) {
    CAPTURE(width);
    const dcnv2::DeformConv2DShape shape = MapOf(2, 3, width, 256);
    const dcnv2::PixelOrder order(shape);
    std::vector<int> visits(order.size());
    dcnv2::PixelPosition walked = order.Locate(0);
    int64_t image = 0;
    int64_t run = 0, run_pixel = 0;
    for (int64_t i = 0; i < order.size(); ++i) {
      const dcnv2::PixelPosition at = order.Locate(i);
      REQUIRE((at.row == walked.row && at.column == walked.column));
      const int64_t pixel = image * shape.out_pixels() + at.row * width + at.column;
      ++visits[pixel];
      if (run == 0) {
        run = order.RunLength(i);
        run_pixel = pixel;
      }
      REQUIRE(pixel == run_pixel++);
      --run;
      if (order.Advance(&walked)) ++image;
    }
    CHECK(image == 2);
    CHECK(visits == std::vector<int>(order.size(), 1));
  }
}
