// The inner loops, compiled once per instruction set and chosen at run time.
#ifndef DCNV2_CC_LIB_SIMD_KERNELS_H_
#define DCNV2_CC_LIB_SIMD_KERNELS_H_

#include <cstdint>

namespace dcnv2 {

// A tile is a row-major scratch matrix with a row stride known at compile time, which lets a micro-kernel address all
// its rows from one register. 49 cache lines: odd, so that equal columns of successive rows use different cache sets.
constexpr int64_t kTileRowBytes = 49 * 64;
template <typename T>
constexpr int64_t kTileStride = kTileRowBytes / sizeof(T);

// C[rows, columns] (+)= A[rows, depth] * B[depth, columns].
template <typename T>
struct GemmArguments {
  int64_t rows, columns, depth;
  // A is a tile; or, when `a_is_transposed`, a tile that holds A transposed: [depth, rows].
  const T* a;
  bool a_is_transposed;
  const T* packed_b;  // from PackGemmB
  T* c;
  int64_t c_stride;
  bool accumulate;
};

// Where samples read, and the linear forms of their corners. A structure of arrays, each padded to whole vectors.
template <typename T>
struct SamplePlan {
  int32_t* corner[4];  // pixel index; corner[0] < 0 means that there is nothing to read
  T* weight[4];        // of the modulated value
};

// The additional forms that gradients need: interpolation = d value / d modulation.
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
template <typename T>
struct ColumnBlock {
  int64_t pixels;
  int64_t samples_per_pixel;  // plan entries per pixel
  const T* const* image;      // per pixel: the image it samples
  int64_t image_channels;
  const ChannelRun* runs;
  int64_t run_count;
};

// Gradients with respect to the sampling of each plan entry; added to.
template <typename T>
struct SampleGradients {
  T* modulation;
  T* row;
  T* column;
};

template <typename T>
struct SimdKernels {
  const char* name;
  int64_t gemm_rows;     // rows of the register block; multiples waste nothing
  int64_t gemm_columns;  // columns of the register block, the width of a packed panel

  void (*gemm)(const GemmArguments<T>& arguments);

  // Fills `plan`, and `gradient_plan` unless null, by the zero-outside rule on a height x width map.
  void (*plan_samples)(const SamplePositions<T>& positions, int32_t height, int32_t width, const SamplePlan<T>& plan,
                       const SampleGradientPlan<T>* gradient_plan);

  // tile[pixel, run.tile_column + i] = sum_corner weight * image[corner, run.channel + i].
  void (*gather)(const ColumnBlock<T>& block, const SamplePlan<T>& plan, T* tile);

  // The transpose of `gather`: spreads the tile over `image_gradient` ([pixel index, image_channels]) and adds the
  // gradients of the samples themselves.
  void (*scatter)(const ColumnBlock<T>& block, const SamplePlan<T>& plan, const SampleGradientPlan<T>& gradient_plan,
                  const T* tile, T* image_gradient, const SampleGradients<T>& gradients);

  // out[c] += sum_j weight[j] * rows[index[j] * stride + c].
  void (*add_weighted_rows)(const T* rows, int64_t stride, const int32_t* index, const T* weight, int64_t count,
                            int64_t channels, T* out);
  // rows[index[j] * stride + c] += weight[j] * values[c].
  void (*add_to_rows)(const T* values, const int32_t* index, const T* weight, int64_t count, int64_t channels, T* rows,
                      int64_t stride);
  // dot[j] = sum_c values[c] * rows[index[j] * stride + c].
  void (*dot_rows)(const T* values, const T* rows, int64_t stride, const int32_t* index, int64_t count,
                   int64_t channels, T* dot);
};

// The fastest kernels this processor runs. The environment variable TF_DCNV2_SIMD=baseline|avx2|avx512 asks for a
// slower set, to compare or to rule out a problem; a set that the processor lacks is never chosen.
template <typename T>
const SimdKernels<T>& BestSimdKernels();

// Number of elements that PackGemmB writes.
inline int64_t PackedGemmBSize(int64_t depth, int64_t columns, int64_t panel) {
  return depth * ((columns + panel - 1) / panel * panel);
}

// Lays B[depth, columns], element (k, j) at b[k * row_stride + j * column_stride], out in panels of `panel` columns,
// the last one padded with zeros.
template <typename T>
void PackGemmB(const T* b, int64_t row_stride, int64_t column_stride, int64_t depth, int64_t columns, int64_t panel,
               T* packed) {
  for (int64_t first = 0; first < columns; first += panel) {
    const int64_t valid = columns - first < panel ? columns - first : panel;
    for (int64_t k = 0; k < depth; ++k, packed += panel) {
      const T* row = b + k * row_stride + first * column_stride;
      for (int64_t j = 0; j < valid; ++j) packed[j] = row[j * column_stride];
      for (int64_t j = valid; j < panel; ++j) packed[j] = T(0);
    }
  }
}

// One set per instruction set, each defined in its own file.
namespace simd_baseline {
extern const SimdKernels<float> kFloatKernels;
extern const SimdKernels<double> kDoubleKernels;
}  // namespace simd_baseline
#if defined(__x86_64__)
namespace simd_avx2 {
extern const SimdKernels<float> kFloatKernels;
extern const SimdKernels<double> kDoubleKernels;
}  // namespace simd_avx2
namespace simd_avx512 {
extern const SimdKernels<float> kFloatKernels;
extern const SimdKernels<double> kDoubleKernels;
}  // namespace simd_avx512
#endif

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_SIMD_KERNELS_H_
