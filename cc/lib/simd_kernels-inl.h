// The bodies behind simd_kernels.h. Included by one file per instruction set, which defines DCNV2_SIMD_NAMESPACE,
// DCNV2_VECTOR_BYTES and DCNV2_GEMM_ROWS. Nothing here may call a function that is not always inlined: an out-of-line
// copy that uses these instructions could be linked into code for lesser processors.
#include "cc/lib/bilinear.h"
#include "cc/lib/simd_kernels.h"

namespace dcnv2 {
namespace DCNV2_SIMD_NAMESPACE {
namespace {

template <typename T>
struct IntegerOfSize;
template <>
struct IntegerOfSize<float> {
  using type = int32_t;
};
template <>
struct IntegerOfSize<double> {
  using type = int64_t;
};

template <typename T>
struct Simd {
  static constexpr int64_t kLanes = DCNV2_VECTOR_BYTES / sizeof(T);
  using Integer = typename IntegerOfSize<T>::type;
  typedef T Vector __attribute__((vector_size(DCNV2_VECTOR_BYTES)));
  typedef T Unaligned __attribute__((vector_size(DCNV2_VECTOR_BYTES), aligned(alignof(T)), may_alias));
  typedef Integer IntegerVector __attribute__((vector_size(DCNV2_VECTOR_BYTES)));
  typedef int32_t Index __attribute__((vector_size(kLanes * sizeof(int32_t))));
  typedef int32_t UnalignedIndex __attribute__((vector_size(kLanes * sizeof(int32_t)), aligned(4), may_alias));

  static DCNV2_INLINE Vector Load(const T* p) { return *reinterpret_cast<const Unaligned*>(p); }
  static DCNV2_INLINE void Store(T* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }
  static DCNV2_INLINE void StoreIndex(int32_t* p, IntegerVector v) {
    *reinterpret_cast<UnalignedIndex*>(p) = __builtin_convertvector(v, Index);
  }
  static DCNV2_INLINE T Sum(Vector v) { return SumHalves<DCNV2_VECTOR_BYTES>(v); }

 private:
  // Adds the upper half to the lower one until one element is left.
  template <int kBytes, typename V>
  static DCNV2_INLINE T SumHalves(const V& v) {
    if constexpr (kBytes == sizeof(T)) {
      return v[0];
    } else {
      typedef T Half __attribute__((vector_size(kBytes / 2)));
      Half halves[2];
      __builtin_memcpy(halves, &v, kBytes);
      const Half sum = halves[0] + halves[1];
      return SumHalves<kBytes / 2>(sum);
    }
  }
};

}  // namespace
}  // namespace DCNV2_SIMD_NAMESPACE

// The sampling rules on whole vectors of positions.
template <typename T>
struct VectorLanes {
  using S = DCNV2_SIMD_NAMESPACE::Simd<T>;
  using Index = typename S::IntegerVector;
  static DCNV2_INLINE Index Truncate(typename S::Vector value) { return __builtin_convertvector(value, Index); }
  static DCNV2_INLINE typename S::Vector ToValue(Index index) {
    return __builtin_convertvector(index, typename S::Vector);
  }
  static DCNV2_INLINE typename S::Vector Broadcast(double value) {
    return typename S::Vector{} + static_cast<T>(value);
  }
};
template <>
struct Lanes<DCNV2_SIMD_NAMESPACE::Simd<float>::Vector> : VectorLanes<float> {};
template <>
struct Lanes<DCNV2_SIMD_NAMESPACE::Simd<double>::Vector> : VectorLanes<double> {};

namespace DCNV2_SIMD_NAMESPACE {
namespace {

constexpr int kGemmRows = DCNV2_GEMM_ROWS;
constexpr int kGemmVectors = 2;

// ---- Matrix product ------------------------------------------------------------------------------------------------

// One register block: kRows x (kVectors * lanes) of C, of which `columns` columns exist.
template <typename T, int kRows, int kVectors, bool kTransposedA>
void MicroKernel(int64_t depth, const T* a, const T* b, T* c, int64_t c_stride, int64_t columns, bool accumulate) {
  using S = Simd<T>;
  constexpr int64_t kPanel = kGemmVectors * S::kLanes;
  typename S::Vector sum[kRows][kVectors] = {};
  for (int64_t k = 0; k < depth; ++k) {
    typename S::Vector b_row[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) b_row[v] = *reinterpret_cast<const typename S::Vector*>(b + v * S::kLanes);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
      const T a_value = a[kTransposedA ? row : row * kTileStride<T>];
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) sum[row][v] += a_value * b_row[v];
    }
    a += kTransposedA ? kTileStride<T> : 1;
    b += kPanel;
  }
  if (columns == kVectors * S::kLanes) {
#pragma GCC unroll 16
    for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) {
        T* out = c + row * c_stride + v * S::kLanes;
        S::Store(out, accumulate ? S::Load(out) + sum[row][v] : sum[row][v]);
      }
    }
    return;
  }
#pragma GCC unroll 16
  for (int row = 0; row < kRows; ++row) {
    T staged[kVectors * S::kLanes];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) S::Store(staged + v * S::kLanes, sum[row][v]);
    T* out = c + row * c_stride;
    for (int64_t j = 0; j < columns; ++j) out[j] = accumulate ? out[j] + staged[j] : staged[j];
  }
}

template <typename T>
using MicroKernelPointer = void (*)(int64_t, const T*, const T*, T*, int64_t, int64_t, bool);

// The micro-kernel for a number of rows that is known only at run time.
template <typename T, int kVectors, bool kTransposedA, int kRows = kGemmRows>
DCNV2_INLINE MicroKernelPointer<T> SelectMicroKernel(int64_t rows) {
  if constexpr (kRows == 1) {
    return MicroKernel<T, 1, kVectors, kTransposedA>;
  } else {
    if (rows == kRows) return MicroKernel<T, kRows, kVectors, kTransposedA>;
    return SelectMicroKernel<T, kVectors, kTransposedA, kRows - 1>(rows);
  }
}

template <typename T, bool kTransposedA>
void GemmWithLayout(const GemmArguments<T>& g) {
  constexpr int64_t kLanes = Simd<T>::kLanes;
  constexpr int64_t kPanel = kGemmVectors * kLanes;
  const int64_t full_rows = g.rows / kGemmRows * kGemmRows;
  for (int64_t column = 0; column < g.columns; column += kPanel) {
    const int64_t columns = g.columns - column < kPanel ? g.columns - column : kPanel;
    const bool narrow = columns <= kLanes;
    const auto block =
        narrow ? MicroKernel<T, kGemmRows, 1, kTransposedA> : MicroKernel<T, kGemmRows, kGemmVectors, kTransposedA>;
    const T* b = g.packed_b + column * g.depth;
    const int64_t a_step = kTransposedA ? 1 : kTileStride<T>;
    for (int64_t row = 0; row < full_rows; row += kGemmRows) {
      block(g.depth, g.a + row * a_step, b, g.c + row * g.c_stride + column, g.c_stride, columns, g.accumulate);
    }
    if (full_rows < g.rows) {
      const int64_t rest = g.rows - full_rows;
      const auto rest_block =
          narrow ? SelectMicroKernel<T, 1, kTransposedA>(rest) : SelectMicroKernel<T, kGemmVectors, kTransposedA>(rest);
      rest_block(g.depth, g.a + full_rows * a_step, b, g.c + full_rows * g.c_stride + column, g.c_stride, columns,
                 g.accumulate);
    }
  }
}

template <typename T>
void Gemm(const GemmArguments<T>& arguments) {
  if (arguments.a_is_transposed) {
    GemmWithLayout<T, true>(arguments);
  } else {
    GemmWithLayout<T, false>(arguments);
  }
}

// ---- Sampling ------------------------------------------------------------------------------------------------------

template <typename T, bool kWithGradients>
void PlanSamplesImpl(const SamplePositions<T>& positions, int32_t height, int32_t width, const SamplePlan<T>& plan,
                     const SampleGradientPlan<T>* gradient_plan) {
  using S = Simd<T>;
  using Vector = typename S::Vector;
  const Vector zero = {};
  const typename S::IntegerVector nowhere = typename S::IntegerVector{} - 1;
  // The arrays are padded to whole vectors.
  for (int64_t i = 0; i < positions.size; i += S::kLanes) {
    const BilinearSample<Vector> sample = {ZeroOutsideAxis(S::Load(positions.row + i), height),
                                           ZeroOutsideAxis(S::Load(positions.column + i), width)};
    const Vector validity = sample.validity();
    const Vector scale = validity * S::Load(positions.modulation + i);
    // Outside the map there is nothing to read, unless the modulation is NaN, which must still reach the output.
    auto skipped = (validity == zero) & (scale == zero);
    // Going backward a position that is NaN feeds no pixel: its own gradient is NaN, which is enough to notice.
    if (kWithGradients) skipped |= validity != validity;
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const auto corner = sample.corner(c, width);
      S::StoreIndex(plan.corner[c] + i, c == 0 ? (skipped ? nowhere : corner) : corner);
      S::Store(plan.weight[c] + i, scale * sample.weight(c));
      if (!kWithGradients) continue;
      S::Store(gradient_plan->interpolation[c] + i, validity * sample.weight(c));
      S::Store(gradient_plan->row_slope[c] + i, scale * sample.row_slope(c));
      S::Store(gradient_plan->column_slope[c] + i, scale * sample.column_slope(c));
    }
  }
}

template <typename T>
void PlanSamples(const SamplePositions<T>& positions, int32_t height, int32_t width, const SamplePlan<T>& plan,
                 const SampleGradientPlan<T>* gradient_plan) {
  if (gradient_plan == nullptr) {
    PlanSamplesImpl<T, false>(positions, height, width, plan, nullptr);
  } else {
    PlanSamplesImpl<T, true>(positions, height, width, plan, gradient_plan);
  }
}

template <typename T>
void Gather(const ColumnBlock<T>& block, const SamplePlan<T>& plan, T* tile) {
  using S = Simd<T>;
  for (int64_t pixel = 0; pixel < block.pixels; ++pixel, tile += kTileStride<T>) {
    const T* image = block.image[pixel];
    for (int64_t r = 0; r < block.run_count; ++r) {
      const ChannelRun& run = block.runs[r];
      const int64_t sample = pixel * block.samples_per_pixel + run.sample;
      T* out = tile + run.tile_column;
      int64_t c = 0;
      if (plan.corner[0][sample] < 0) {
        for (; c + S::kLanes <= run.count; c += S::kLanes) S::Store(out + c, typename S::Vector{});
        for (; c < run.count; ++c) out[c] = T(0);
        continue;
      }
      const T* const x = image + run.channel;
      const T* const x0 = x + plan.corner[0][sample] * block.image_channels;
      const T* const x1 = x + plan.corner[1][sample] * block.image_channels;
      const T* const x2 = x + plan.corner[2][sample] * block.image_channels;
      const T* const x3 = x + plan.corner[3][sample] * block.image_channels;
      const T w0 = plan.weight[0][sample], w1 = plan.weight[1][sample];
      const T w2 = plan.weight[2][sample], w3 = plan.weight[3][sample];
      for (; c + S::kLanes <= run.count; c += S::kLanes) {
        S::Store(out + c, w0 * S::Load(x0 + c) + w1 * S::Load(x1 + c) + w2 * S::Load(x2 + c) + w3 * S::Load(x3 + c));
      }
      for (; c < run.count; ++c) out[c] = w0 * x0[c] + w1 * x1[c] + w2 * x2[c] + w3 * x3[c];
    }
  }
}

template <typename T>
void Scatter(const ColumnBlock<T>& block, const SamplePlan<T>& plan, const SampleGradientPlan<T>& gradient_plan,
             const T* tile, T* image_gradient, const SampleGradients<T>& gradients) {
  using S = Simd<T>;
  for (int64_t pixel = 0; pixel < block.pixels; ++pixel, tile += kTileStride<T>) {
    const T* image = block.image[pixel];
    for (int64_t r = 0; r < block.run_count; ++r) {
      const ChannelRun& run = block.runs[r];
      const int64_t sample = pixel * block.samples_per_pixel + run.sample;
      T modulation = 0, row = 0, column = 0;
      T dot[4] = {};  // of the channels that do not fill a vector
      if (plan.corner[0][sample] >= 0) {
        typename S::Vector sum[4] = {};
        const T* const value = tile + run.tile_column;
        int64_t start[4];
        T weight[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          start[i] = plan.corner[i][sample] * block.image_channels + run.channel;
          weight[i] = plan.weight[i][sample];
        }
        int64_t c = 0;
        for (; c + S::kLanes <= run.count; c += S::kLanes) {
          const typename S::Vector v = S::Load(value + c);
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) {
            sum[i] += v * S::Load(image + start[i] + c);
            T* out = image_gradient + start[i] + c;
            // Corners may coincide at a border, so each is written before the next is read.
            S::Store(out, S::Load(out) + weight[i] * v);
          }
        }
        for (; c < run.count; ++c) {
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) {
            dot[i] += value[c] * image[start[i] + c];
            image_gradient[start[i] + c] += weight[i] * value[c];
          }
        }
        typename S::Vector modulation_sum = {}, row_sum = {}, column_sum = {};
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          modulation_sum += gradient_plan.interpolation[i][sample] * sum[i];
          row_sum += gradient_plan.row_slope[i][sample] * sum[i];
          column_sum += gradient_plan.column_slope[i][sample] * sum[i];
        }
        modulation = S::Sum(modulation_sum);
        row = S::Sum(row_sum);
        column = S::Sum(column_sum);
      }
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        modulation += gradient_plan.interpolation[i][sample] * dot[i];
        row += gradient_plan.row_slope[i][sample] * dot[i];
        column += gradient_plan.column_slope[i][sample] * dot[i];
      }
      gradients.modulation[sample] += modulation;
      gradients.row[sample] += row;
      gradients.column[sample] += column;
    }
  }
}

// ---- Rows ----------------------------------------------------------------------------------------------------------

template <typename T, int kVectors>
DCNV2_INLINE void AddWeightedRowsBlock(const T* rows, int64_t stride, const int32_t* index, const T* weight,
                                       int64_t count, T* out) {
  using S = Simd<T>;
  typename S::Vector sum[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) sum[v] = S::Load(out + v * S::kLanes);
  for (int64_t j = 0; j < count; ++j) {
    const T* row = rows + index[j] * stride;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[v] += weight[j] * S::Load(row + v * S::kLanes);
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) S::Store(out + v * S::kLanes, sum[v]);
}

template <typename T>
void AddWeightedRows(const T* rows, int64_t stride, const int32_t* index, const T* weight, int64_t count,
                     int64_t channels, T* out) {
  constexpr int64_t kLanes = Simd<T>::kLanes;
  int64_t c = 0;
  for (; c + 4 * kLanes <= channels; c += 4 * kLanes) {
    AddWeightedRowsBlock<T, 4>(rows + c, stride, index, weight, count, out + c);
  }
  for (; c + kLanes <= channels; c += kLanes) {
    AddWeightedRowsBlock<T, 1>(rows + c, stride, index, weight, count, out + c);
  }
  for (; c < channels; ++c) {
    for (int64_t j = 0; j < count; ++j) out[c] += weight[j] * rows[index[j] * stride + c];
  }
}

template <typename T>
void AddToRows(const T* values, const int32_t* index, const T* weight, int64_t count, int64_t channels, T* rows,
               int64_t stride) {
  using S = Simd<T>;
  for (int64_t j = 0; j < count; ++j) {
    T* row = rows + index[j] * stride;
    int64_t c = 0;
    for (; c + S::kLanes <= channels; c += S::kLanes) {
      S::Store(row + c, S::Load(row + c) + weight[j] * S::Load(values + c));
    }
    for (; c < channels; ++c) row[c] += weight[j] * values[c];
  }
}

template <typename T>
void DotRows(const T* values, const T* rows, int64_t stride, const int32_t* index, int64_t count, int64_t channels,
             T* dot) {
  using S = Simd<T>;
  for (int64_t j = 0; j < count; ++j) {
    const T* row = rows + index[j] * stride;
    typename S::Vector sum = {};
    int64_t c = 0;
    for (; c + S::kLanes <= channels; c += S::kLanes) sum += S::Load(values + c) * S::Load(row + c);
    T total = S::Sum(sum);
    for (; c < channels; ++c) total += values[c] * row[c];
    dot[j] = total;
  }
}

template <typename T>
constexpr SimdKernels<T> MakeKernels(const char* name) {
  return {name,       kGemmRows,          kGemmVectors * Simd<T>::kLanes,
          Gemm<T>,    PlanSamples<T>,     Gather<T>,
          Scatter<T>, AddWeightedRows<T>, AddToRows<T>,
          DotRows<T>};
}

}  // namespace

const SimdKernels<float> kFloatKernels = MakeKernels<float>(DCNV2_SIMD_NAME);
const SimdKernels<double> kDoubleKernels = MakeKernels<double>(DCNV2_SIMD_NAME);

}  // namespace DCNV2_SIMD_NAMESPACE
}  // namespace dcnv2
