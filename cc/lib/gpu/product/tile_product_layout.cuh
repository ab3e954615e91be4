// What the kinds of tile products share: how tiles lie in shared memory, and how warps divide one product.
#ifndef DCNV2_CC_LIB_GPU_PRODUCT_TILE_PRODUCT_LAYOUT_CUH_
#define DCNV2_CC_LIB_GPU_PRODUCT_TILE_PRODUCT_LAYOUT_CUH_

#include "cc/lib/gpu/common/ptx.cuh"

namespace dcnv2 {

enum class TileMath {
  kScalar,    // ordinary multiply-add of float or double
  kTf32,      // matrix units; float rounded to TF32; from compute capability 8.0
  kTf32x3,    // matrix units; float as the sum of two TF32 numbers, three products each; from 8.0
  kHalf,      // matrix units; from 7.5
  kBFloat16,  // matrix units; from 8.0
};

// Of A (rows x depth) and B (depth x columns) row major means that a row's elements are neighbours: along the depth in
// A, along the columns in B. Column major is the transpose.
enum class TileLayout { kRowMajor, kColumnMajor };

// Four neighbours; float ones travel as one vector of 16 bytes.
template <typename T>
struct alignas(16) TileQuad {
  T values[4];
};

// How many warps share the rows of a product: as many as make the tile of a warp nearest to a square, which has the
// fewest operands to read. A warp's rows and columns are multiples of the units.
constexpr int WarpsAlongRows(int rows, int columns, int warps, int row_unit, int column_unit) {
  int best = 0;
  int best_sides = 0;
  for (int along_rows = 1; along_rows <= warps; ++along_rows) {
    if (warps % along_rows != 0) continue;
    const int along_columns = warps / along_rows;
    if (rows % (along_rows * row_unit) != 0 || columns % (along_columns * column_unit) != 0) continue;
    const int sides = rows / along_rows + columns / along_columns;
    if (best == 0 || sides < best_sides) {
      best = along_rows;
      best_sides = sides;
    }
  }
  return best;
}

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_PRODUCT_TILE_PRODUCT_LAYOUT_CUH_
