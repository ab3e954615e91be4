// Planning, reading and spreading samples behind simd_kernels.h.
#ifndef DCNV2_CC_LIB_SIMD_SAMPLING_INL_H_
#define DCNV2_CC_LIB_SIMD_SAMPLING_INL_H_

#include "cc/lib/simd_kernels.h"
#include "cc/lib/simd_vector-inl.h"

namespace dcnv2 {
namespace DCNV2_SIMD_NAMESPACE {
namespace {

template <typename T, bool kBackward>
void PlanSamplesImpl(const SamplePositions<T>& positions, int32_t height, int32_t width, const SamplePlan<T>& plan,
                     const SampleGradientPlan<T>* gradient_plan) {
  using V = Simd<T>;
  using Vector = typename V::Vector;
  const Vector zero = {};
  const typename V::IntegerVector nowhere = typename V::IntegerVector{} - 1;
  // The arrays are padded to whole vectors.
  for (int64_t i = 0; i < positions.size; i += V::kLanes) {
    const BilinearSample<Vector> sample = {ZeroOutsideAxis(V::Load(positions.row + i), height),
                                           ZeroOutsideAxis(V::Load(positions.column + i), width)};
    const Vector validity = sample.validity();
    const Vector scale = validity * V::Load(positions.modulation + i);
    // Outside the map there is nothing to read, unless the modulation is NaN, which must still reach the output.
    auto skipped = (validity == zero) & (scale == zero);
    // Going backward a position that is NaN feeds no pixel: its own gradient is NaN, which is enough to notice.
    if (kBackward) skipped |= validity != validity;
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const auto corner = sample.corner(c, width);
      V::StoreIndex(plan.corner[c] + i, c == 0 ? (skipped ? nowhere : corner) : corner);
      V::Store(plan.weight[c] + i, scale * sample.weight(c));
      if (gradient_plan == nullptr) continue;
      V::Store(gradient_plan->interpolation[c] + i, validity * sample.weight(c));
      V::Store(gradient_plan->row_slope[c] + i, scale * sample.row_slope(c));
      V::Store(gradient_plan->column_slope[c] + i, scale * sample.column_slope(c));
    }
  }
}

template <typename T>
void PlanSamples(const SamplePositions<T>& positions, int32_t height, int32_t width, SampleUse use,
                 const SamplePlan<T>& plan, const SampleGradientPlan<T>* gradient_plan) {
  if (use == SampleUse::kForward) {
    PlanSamplesImpl<T, false>(positions, height, width, plan, gradient_plan);
  } else {
    PlanSamplesImpl<T, true>(positions, height, width, plan, gradient_plan);
  }
}

// tile[pixel, run.tile_column + i] = sum_corner weight * image[corner, run.channel + i].
template <typename S>
void Gather(const ColumnBlock<S>& block, const SamplePlan<Compute<S>>& plan, Compute<S>* tile, int64_t tile_stride) {
  using T = Compute<S>;
  constexpr int64_t kLanes = Simd<T>::kLanes;
  for (int64_t pixel = 0; pixel < block.pixels; ++pixel, tile += tile_stride) {
    const S* image = block.image[pixel];
    for (int64_t r = 0; r < block.run_count; ++r) {
      const ChannelRun& run = block.runs[r];
      const int64_t sample = pixel * block.samples_per_pixel + run.sample;
      T* out = tile + run.tile_column;
      int64_t c = 0;
      if (plan.corner[0][sample] < 0) {
        for (; c + kLanes <= run.count; c += kLanes) Store(out + c, typename Simd<T>::Vector{});
        for (; c < run.count; ++c) out[c] = T(0);
        continue;
      }
      const S* const x = image + run.channel;
      const S* const x0 = x + plan.corner[0][sample] * block.image_channels;
      const S* const x1 = x + plan.corner[1][sample] * block.image_channels;
      const S* const x2 = x + plan.corner[2][sample] * block.image_channels;
      const S* const x3 = x + plan.corner[3][sample] * block.image_channels;
      const T w0 = plan.weight[0][sample], w1 = plan.weight[1][sample];
      const T w2 = plan.weight[2][sample], w3 = plan.weight[3][sample];
      for (; c + kLanes <= run.count; c += kLanes) {
        Store(out + c, w0 * Load(x0 + c) + w1 * Load(x1 + c) + w2 * Load(x2 + c) + w3 * Load(x3 + c));
      }
      for (; c < run.count; ++c) {
        out[c] = w0 * Widen(x0[c]) + w1 * Widen(x1[c]) + w2 * Widen(x2[c]) + w3 * Widen(x3[c]);
      }
    }
  }
}

template <typename S>
void Scatter(const ColumnBlock<S>& block, const SamplePlan<Compute<S>>& plan, const Compute<S>* tile,
             Compute<S>* image_gradient, Compute<S>* dots) {
  using T = Compute<S>;
  using Vector = typename Simd<T>::Vector;
  constexpr int64_t kLanes = Simd<T>::kLanes;
  for (int64_t pixel = 0; pixel < block.pixels; ++pixel, tile += kTileStride<T>) {
    const S* image = block.image[pixel];
    for (int64_t r = 0; r < block.run_count; ++r) {
      const ChannelRun& run = block.runs[r];
      const int64_t sample = pixel * block.samples_per_pixel + run.sample;
      if (plan.corner[0][sample] < 0) continue;
      const T* const value = tile + run.tile_column;
      const S* x[4];
      T* gradient[4];
      T weight[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const int64_t start = plan.corner[i][sample] * block.image_channels + run.channel;
        x[i] = image + start;
        gradient[i] = image_gradient + start;
        weight[i] = plan.weight[i][sample];
      }
      Vector sum[4] = {};
      int64_t c = 0;
      for (; c + kLanes <= run.count; c += kLanes) {
        const Vector v = Load(value + c);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          sum[i] += v * Load(x[i] + c);
          // Corners may coincide at a border, so each is written before the next is read.
          Store(gradient[i] + c, Load(gradient[i] + c) + weight[i] * v);
        }
      }
      T* const dot = dots + 4 * sample;
      AddLaneSums<T>(sum, dot);
      for (; c < run.count; ++c) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          dot[i] += value[c] * Widen(x[i][c]);
          gradient[i][c] += weight[i] * value[c];
        }
      }
    }
  }
}

}  // namespace
}  // namespace DCNV2_SIMD_NAMESPACE
}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_SIMD_SAMPLING_INL_H_
