// The inner loops, compiled once per instruction set and chosen at run time.
#ifndef DCNV2_CC_LIB_CPU_SIMD_KERNELS_H_
#define DCNV2_CC_LIB_CPU_SIMD_KERNELS_H_

#include <cstdint>

#include "cc/lib/storage.h"

namespace dcnv2 {

// A tile is a row-major scratch matrix whose row stride is usually this one: known at compile time, it lets a
// micro-kernel address all its rows from one register. 49 cache lines: odd, so that equal columns of successive rows
// use different cache sets.
constexpr int64_t kTileRowBytes = 49 * 64;
template <typename T>
constexpr int64_t kTileStride = kTileRowBytes / sizeof(T);

// C[rows, columns] (+)= A[rows, depth] * B[depth, columns].
template <typename T>
struct GemmArguments {
  int64_t rows, columns, depth;
  const T* a;
  int64_t a_stride;
  const T* packed_b;  // panels from PackPanel
  T* c;
  int64_t c_stride;
  bool accumulate;
};

// A product in which every output channel sees the inputs of its own group only, `width` of them, and which has as many
// outputs as inputs. Rows of channels are padded to whole vectors, whose surplus lanes may hold anything and feed
// nothing.
template <typename T>
struct GroupArguments {
  int64_t rows, channels, width, taps;
  const T* a;
  int64_t a_stride;
  const T* b;
  int64_t b_stride;  // a multiple of the vector
  T* c;
  int64_t c_stride;
  bool accumulate;
};

// What a plan is made for: reading the map, or spreading a gradient over it.
enum class SampleUse { kForward, kBackward };

// Where samples read, and the linear forms of their corners. A structure of arrays, each padded to whole vectors.
template <typename T>
struct SamplePlan {
  int32_t* corner[4];  // pixel index; corner[0] < 0 means that there is nothing to read
  T* weight[4];        // of the modulated value
};

// The linear forms of the corners' dot products with the output gradient that are gradients of the sample itself:
// interpolation with respect to its modulation, the slopes with respect to its position.
template <typename T>
struct SampleGradientPlan {
  T* interpolation[4];
  T* row_slope[4];
  T* column_slope[4];
};

template <typename T>
struct SamplePositions {
  int64_t size;
  const T* row;
  const T* column;
  const T* modulation;
};

// A run of channels that is read at one sample of the plan, and the tile column where it goes (or comes from).
struct ChannelRun {
  int64_t sample;  // index within one pixel's samples
  int64_t channel;
  int64_t count;
  int64_t tile_column;
};

// A rectangular piece of the column matrix: `pixels` rows, the union of `runs` as columns.
template <typename S>
struct ColumnBlock {
  int64_t pixels;
  int64_t samples_per_pixel;  // plan entries per pixel
  const S* const* image;      // per pixel: the image it samples
  int64_t image_channels;
  const ChannelRun* runs;
  int64_t run_count;
};

// For tensors stored as S.
template <typename S>
struct SimdKernels {
  using T = Compute<S>;

  const char* name;
  int64_t gemm_rows;     // rows of the register block; multiples waste nothing
  int64_t gemm_columns;  // columns of the register block, the width of a packed panel
  int64_t lanes;         // of a vector

  // A is [rows, depth] with the stride kTileStride.
  void (*gemm)(const GemmArguments<T>& arguments);
  // A is stored transposed, [depth, rows], with any stride.
  void (*gemm_transposed)(const GemmArguments<T>& arguments);

  // C[row, c] (+)= sum_tap sum_i A[row, tap * b_stride + first(c) + i] * B[tap * width + i, c], where first(c) is the
  // first channel of the group of c. Widths are powers of two below `lanes`.
  void (*group_product)(const GroupArguments<T>& arguments);
  // C[i, c] (+)= sum_row A[row, first(c) + i] * B[row, c]; taps have no meaning.
  void (*group_product_transposed)(const GroupArguments<T>& arguments);

  // Fills `plan`, and `gradient_plan` unless null, by the zero-outside rule on a height x width map.
  void (*plan_samples)(const SamplePositions<T>& positions, int32_t height, int32_t width, SampleUse use,
                       const SamplePlan<T>& plan, const SampleGradientPlan<T>* gradient_plan);

  // tile[pixel, run.tile_column + i] = sum_corner weight * image[corner, run.channel + i].
  void (*gather)(const ColumnBlock<S>& block, const SamplePlan<T>& plan, T* tile, int64_t tile_stride);

  // The transpose of `gather`: spreads a tile of stride kTileStride over `image_gradient` ([pixel index,
  // image_channels]), and adds to dots[sample][corner] the products of the tile with what `gather` reads there.
  void (*scatter)(const ColumnBlock<S>& block, const SamplePlan<T>& plan, const T* tile, T* image_gradient, T* dots);

  // out[c] = scale * sum_j weight[j] * rows[index[j] * stride + c].
  void (*combine_rows)(const S* rows, int64_t stride, const int32_t* index, const T* weight, int64_t count,
                       int64_t channels, T scale, S* out);
  // rows[index[j] * stride + c] += weight[j] * values[c].
  void (*add_to_rows)(const S* values, const int32_t* index, const T* weight, int64_t count, int64_t channels, T* rows,
                      int64_t stride);
  // dot[j] = sum_c values[c] * rows[index[j] * stride + c].
  void (*dot_rows)(const S* values, const S* rows, int64_t stride, const int32_t* index, int64_t count,
                   int64_t channels, T* dot);
  // out[i] = values[i], rounded.
  void (*narrow)(const T* values, int64_t size, S* out);
};

// The fastest kernels this processor runs. The environment variable TF_DCNV2_SIMD=baseline|avx2|avx512 asks for a
// slower set, to compare or to rule out a problem; a set that the processor lacks is never chosen. Any of them also
// leaves bfloat16 to vectors, where matrix_units.h would multiply.
template <typename S>
const SimdKernels<S>& BestSimdKernels();

// Number of elements of B[depth, columns] in panels.
inline int64_t PackedGemmBSize(int64_t depth, int64_t columns, int64_t panel) {
  return depth * ((columns + panel - 1) / panel * panel);
}

// Packs one panel of B[depth, columns]: its rows, of which row(k) gives the `valid` elements of the k-th, widened and
// filled up with zeros to `panel` elements. Returns the end of the panel, where the next one begins.
template <typename T, typename Row>
T* PackPanel(int64_t depth, int64_t valid, int64_t panel, const Row& row, T* packed) {
  for (int64_t k = 0; k < depth; ++k, packed += panel) {
    const auto* elements = row(k);
    for (int64_t j = 0; j < valid; ++j) packed[j] = Widen(elements[j]);
    for (int64_t j = valid; j < panel; ++j) packed[j] = 0;
  }
  return packed;
}

// Each instruction set has its tables in a file of its own.
namespace simd_baseline {
template <typename S>
const SimdKernels<S>& Kernels();
}  // namespace simd_baseline
#if defined(__x86_64__)
namespace simd_avx2 {
template <typename S>
const SimdKernels<S>& Kernels();
}  // namespace simd_avx2
namespace simd_avx512 {
template <typename S>
const SimdKernels<S>& Kernels();
}  // namespace simd_avx512
#endif

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_SIMD_KERNELS_H_
