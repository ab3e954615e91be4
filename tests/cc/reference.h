// Deformable convolution written the slow and obvious way, to compare the library with.
#ifndef DCNV2_TESTS_CC_REFERENCE_H_
#define DCNV2_TESTS_CC_REFERENCE_H_

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "cc/lib/cpu/conv/deform_conv2d.h"
#include "doctest/doctest.h"

namespace dcnv2_test {

using Values = std::vector<double>;

struct ConvProblem {
  dcnv2::DeformConv2DShape shape;
  Values x, kernel, offset, mask, dy;
};

struct NamedShape {
  const char* name;
  dcnv2::DeformConv2DShape shape;
};

// batch, in (height, width, channels), out (height, width, channels), kernel, groups, deformable groups,
// stride, dilation, padding before.
inline const NamedShape kShapes[] = {
    {"plain 3x3", {2, 7, 9, 16, 7, 9, 32, 3, 3, 1, 1, {1, 1}, {1, 1}, {1, 1}}},
    {"odd channel counts", {1, 6, 5, 7, 6, 5, 11, 3, 3, 1, 1, {1, 1}, {1, 1}, {1, 1}}},
    {"one channel", {1, 6, 5, 1, 6, 5, 1, 3, 3, 1, 1, {1, 1}, {1, 1}, {1, 1}}},
    {"groups cut across deformable groups", {2, 6, 6, 12, 6, 6, 10, 3, 3, 2, 3, {1, 1}, {1, 1}, {1, 1}}},
    {"many groups", {1, 5, 6, 64, 5, 6, 64, 3, 3, 16, 1, {1, 1}, {1, 1}, {1, 1}}},
    {"as many groups as channels", {2, 5, 6, 37, 5, 6, 37, 3, 3, 37, 1, {1, 1}, {1, 1}, {1, 1}}},
    {"groups of two", {1, 6, 7, 74, 3, 4, 74, 3, 3, 37, 2, {2, 2}, {1, 1}, {1, 1}}},
    {"groups of eight, cut by deformable groups", {1, 5, 6, 120, 5, 6, 120, 3, 3, 15, 24, {1, 1}, {1, 1}, {1, 1}}},
    {"more taps of groups than a tile is wide", {1, 4, 5, 24, 4, 5, 24, 9, 11, 24, 1, {1, 1}, {1, 1}, {4, 5}}},
    {"one input and two outputs in every group", {1, 5, 6, 8, 5, 6, 16, 3, 3, 8, 1, {1, 1}, {1, 1}, {1, 1}}},
    {"many deformable groups", {1, 5, 6, 32, 5, 6, 8, 3, 3, 1, 16, {1, 1}, {1, 1}, {1, 1}}},
    {"stride and dilation", {1, 11, 13, 8, 5, 5, 8, 3, 3, 1, 1, {2, 2}, {2, 3}, {1, 2}}},
    {"rectangular kernel", {1, 8, 7, 4, 8, 7, 6, 5, 1, 1, 2, {1, 1}, {1, 1}, {2, 0}}},
    {"more channels than a tile is wide", {1, 2, 2, 900, 2, 2, 3, 1, 2, 1, 1, {1, 1}, {1, 1}, {0, 0}}},
    {"more outputs than a tile is wide", {1, 2, 2, 3, 2, 2, 900, 1, 2, 1, 1, {1, 1}, {1, 1}, {0, 0}}},
    {"more pixels than a tile", {1, 20, 21, 4, 20, 21, 4, 3, 3, 1, 1, {1, 1}, {1, 1}, {1, 1}}},
    {"wide enough for strips", {1, 3, 89, 192, 3, 89, 3, 3, 3, 1, 1, {1, 1}, {1, 1}, {1, 1}}},
    // Gradients take 2^18 samples at a time.
    {"more samples than a band", {2, 25, 27, 16, 25, 27, 3, 5, 5, 1, 16, {1, 1}, {1, 1}, {2, 2}}},
    // Channels in whole blocks of matrix units.
    {"two groups of blocks, a ragged number of outputs", {2, 5, 7, 128, 5, 7, 70, 3, 3, 2, 4, {1, 1}, {1, 1}, {1, 1}}},
    {"deformable groups of one block", {1, 5, 6, 96, 5, 6, 33, 3, 3, 1, 3, {1, 1}, {1, 1}, {1, 1}}},
    {"more blocks than a tile is wide", {1, 2, 3, 576, 2, 3, 8, 1, 2, 1, 1, {1, 1}, {1, 1}, {0, 0}}},
    {"blocks and more outputs than a tile is wide", {1, 2, 2, 64, 2, 2, 545, 1, 2, 1, 1, {1, 1}, {1, 1}, {0, 0}}},
    {"blocks and more pixels than any tile", {1, 18, 17, 32, 18, 17, 32, 3, 3, 1, 1, {1, 1}, {1, 1}, {1, 1}}},
};

// offset_scale in pixels.
inline ConvProblem RandomProblem(const dcnv2::DeformConv2DShape& s, double offset_scale, int seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  const auto values = [&](int64_t size, double scale) {
    Values v(size);
    for (double& value : v) value = scale * normal(generator);
    return v;
  };
  const int64_t samples = s.batch * s.out_pixels() * s.samples_per_pixel();
  return {s,
          values(s.batch * s.in_height * s.in_width * s.in_channels, 1),
          values(s.taps() * s.group_in_channels() * s.out_channels, 1),
          values(2 * samples, offset_scale),
          values(samples, 1),
          values(s.batch * s.out_pixels() * s.out_channels, 1)};
}

// Visits every (pixel of the batch, deformable group, tap) with its index and position.
inline void ForEachSample(const ConvProblem& p,
                          const std::function<void(int64_t image, int64_t pixel, int64_t group, int64_t tap,
                                                   int64_t sample, double row, double column)>& visit) {
  const auto& s = p.shape;
  int64_t sample = 0;
  for (int64_t image = 0; image < s.batch; ++image) {
    for (int64_t pixel = 0; pixel < s.out_pixels(); ++pixel) {
      for (int64_t group = 0; group < s.deformable_groups; ++group) {
        for (int64_t tap = 0; tap < s.taps(); ++tap, ++sample) {
          const int64_t row = pixel / s.out_width * s.stride.height - s.padding_before.height +
                              tap / s.kernel_width * s.dilation.height;
          const int64_t column =
              pixel % s.out_width * s.stride.width - s.padding_before.width + tap % s.kernel_width * s.dilation.width;
          visit(image, pixel, group, tap, sample, row + p.offset[2 * sample], column + p.offset[2 * sample + 1]);
        }
      }
    }
  }
}

// The map continued by zeros, read at any integer position.
inline double At(const ConvProblem& p, int64_t image, int64_t row, int64_t column, int64_t channel) {
  const auto& s = p.shape;
  if (row < 0 || row >= s.in_height || column < 0 || column >= s.in_width) return 0;
  return p.x[((image * s.in_height + row) * s.in_width + column) * s.in_channels + channel];
}

inline Values ReferenceForward(const ConvProblem& p) {
  const auto& s = p.shape;
  Values y(s.batch * s.out_pixels() * s.out_channels, 0);
  ForEachSample(p, [&](int64_t image, int64_t pixel, int64_t dg, int64_t tap, int64_t sample, double row, double col) {
    if (!(row > -1 && row < s.in_height && col > -1 && col < s.in_width)) return;
    const int64_t top = std::floor(row), left = std::floor(col);
    for (int64_t c = dg * s.deformable_group_channels(); c < (dg + 1) * s.deformable_group_channels(); ++c) {
      double value = 0;
      for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 2; ++j) {
          value +=
              (1 - std::abs(row - (top + i))) * (1 - std::abs(col - (left + j))) * At(p, image, top + i, left + j, c);
        }
      }
      const int64_t group = c / s.group_in_channels();
      for (int64_t o = 0; o < s.group_out_channels(); ++o) {
        const int64_t out = group * s.group_out_channels() + o;
        const int64_t weight = (tap * s.group_in_channels() + c % s.group_in_channels()) * s.out_channels + out;
        y[(image * s.out_pixels() + pixel) * s.out_channels + out] += p.kernel[weight] * value * p.mask[sample];
      }
    }
  });
  return y;
}

inline Values ReferenceImageGradient(const ConvProblem& p) {
  const auto& s = p.shape;
  Values dx(p.x.size(), 0);
  ForEachSample(p, [&](int64_t image, int64_t pixel, int64_t dg, int64_t tap, int64_t sample, double row, double col) {
    if (!(row > -1 && row < s.in_height && col > -1 && col < s.in_width)) return;
    const int64_t top = std::floor(row), left = std::floor(col);
    for (int64_t c = dg * s.deformable_group_channels(); c < (dg + 1) * s.deformable_group_channels(); ++c) {
      const int64_t group = c / s.group_in_channels();
      double dcolumn = 0;
      for (int64_t o = 0; o < s.group_out_channels(); ++o) {
        const int64_t out = group * s.group_out_channels() + o;
        const int64_t weight = (tap * s.group_in_channels() + c % s.group_in_channels()) * s.out_channels + out;
        dcolumn += p.kernel[weight] * p.dy[(image * s.out_pixels() + pixel) * s.out_channels + out];
      }
      for (int64_t i = std::max<int64_t>(top, 0); i <= std::min(top + 1, s.in_height - 1); ++i) {
        for (int64_t j = std::max<int64_t>(left, 0); j <= std::min(left + 1, s.in_width - 1); ++j) {
          dx[((image * s.in_height + i) * s.in_width + j) * s.in_channels + c] +=
              (1 - std::abs(row - i)) * (1 - std::abs(col - j)) * p.mask[sample] * dcolumn;
        }
      }
    }
  });
  return dx;
}

// Values as the library stores them, and back.
template <typename S>
std::vector<S> Stored(const Values& values) {
  std::vector<S> stored;
  for (double value : values) stored.push_back(dcnv2::Narrow<S>(static_cast<dcnv2::Compute<S>>(value)));
  return stored;
}
template <typename S>
Values Widened(const std::vector<S>& stored) {
  Values values;
  for (S value : stored) values.push_back(dcnv2::Widen(value));
  return values;
}

// Results start as NaN: the library may rely on no values that its caller left there.
template <typename S>
std::vector<S> Uninitialized(size_t size) {
  return Stored<S>(Values(size, NAN));
}

template <typename T>
void CheckClose(const std::vector<T>& received, const Values& expected, double tolerance) {
  REQUIRE(received.size() == expected.size());
  double worst = 0;
  for (size_t i = 0; i < received.size(); ++i) {
    const double error = std::abs(received[i] - expected[i]);
    if (!(error <= worst)) worst = std::isnan(error) ? INFINITY : error;
  }
  CHECK(worst <= tolerance);
}

// What the library computes for tensors that are stored as S.
template <typename S>
struct Computed {
  std::vector<S> y, dx, dkernel;
  std::vector<dcnv2::Compute<S>> doffset, dmask;
};

template <typename S>
Computed<S> RunLibrary(const ConvProblem& p, const dcnv2::ParallelFor& parallel_for, bool modulated = true) {
  using T = dcnv2::Compute<S>;
  const auto x = Stored<S>(p.x), kernel = Stored<S>(p.kernel), dy = Stored<S>(p.dy);
  const auto offset = Stored<T>(p.offset), mask = Stored<T>(p.mask);
  Computed<S> r{Uninitialized<S>(dy.size()), Uninitialized<S>(x.size()), Uninitialized<S>(kernel.size()),
                Uninitialized<T>(offset.size()), Uninitialized<T>(mask.size())};
  const dcnv2::DeformConv2DInputs<S> inputs{x.data(), kernel.data(), offset.data(), modulated ? mask.data() : nullptr};
  dcnv2::DeformConv2DForward<S>(p.shape, inputs, r.y.data(), parallel_for);
  dcnv2::DeformConv2DBackward<S>(
      p.shape, inputs, dy.data(),
      {r.dx.data(), r.dkernel.data(), r.doffset.data(), modulated ? r.dmask.data() : nullptr}, parallel_for);
  return r;
}

}  // namespace dcnv2_test

#endif  // DCNV2_TESTS_CC_REFERENCE_H_
