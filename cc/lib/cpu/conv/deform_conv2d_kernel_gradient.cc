// The kernel gradient: dkernel[tap, c, o] = sum over pixels of column[pixel, tap, c] * dy[pixel, o].
//
// The work is divided into units of one tap and some input channels. Every unit walks all pixels in the same order and
// in tiles that follow from the shape alone, so the result is bit-identical for any number of threads; units of one
// thread walk them together and share the packed tiles of dy.
#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "cc/lib/cpu/conv/deform_conv2d_backward.h"
#include "cc/lib/cpu/conv/unit_products.h"
#include "cc/lib/cpu/sum_buffer.h"

namespace dcnv2 {
namespace {

// 64 channels and some, so that equal columns of successive rows use different cache sets.
constexpr int64_t kChunkChannels = 64;
template <typename T>
constexpr int64_t kRowStride = kChunkChannels + 64 / sizeof(T);

template <typename S>
struct Unit {
  Unit(const DeformConv2DShape& shape, const ChannelChunk& c, int64_t t, int64_t tile_pixels)
      : chunk(c),
        tap(t),
        samples{c.first_deformable_group(), c.deformable_groups(), t, 1},
        plan(shape, samples, tile_pixels, PlanKind::kForward),
        runs(RunsOfTaps(samples, chunk.segments, tap, 1, kChunkChannels)) {}

  const ChannelChunk& chunk;
  const int64_t tap;
  const SampleRange samples;
  TilePlan<S> plan;
  const std::vector<ChannelRun> runs;
};

// Output channels [begin, begin + count).
struct OutputSlice {
  int64_t begin, count;
};

// The tiles of dy of some slices of the output channels, each packed as the right side of a product.
template <typename S>
class PackedOutputGradient {
 public:
  // The slices lie side by side and are equally wide, but for a narrower last one.
  PackedOutputGradient(const DeformConv2DShape& shape, std::vector<OutputSlice> slices, int64_t panel,
                       int64_t max_pixels)
      : shape_(shape),
        slices_(std::move(slices)),
        panel_(panel),
        buffer_(slices_.size() * PackedGemmBSize(max_pixels, slices_[0].count, panel)) {}

  void Pack(const S* dy, const std::vector<int64_t>& pixels) {
    Compute<S>* packed = buffer_.data();
    slice_size_ = PackedGemmBSize(pixels.size(), slices_[0].count, panel_);
    for (const OutputSlice& slice : slices_) {
      for (int64_t first = 0; first < slice.count; first += panel_) {
        const int64_t valid = std::min(panel_, slice.count - first);
        const S* columns = dy + slice.begin + first;
        packed = PackPanel(
            pixels.size(), valid, panel_, [&](int64_t p) { return columns + pixels[p] * shape_.out_channels; }, packed);
      }
    }
  }
  // The slice that begins at an output channel.
  const Compute<S>* slice(int64_t begin) {
    return buffer_.data() + (begin - slices_[0].begin) / slices_[0].count * slice_size_;
  }

 private:
  const DeformConv2DShape& shape_;
  const std::vector<OutputSlice> slices_;
  const int64_t panel_;
  int64_t slice_size_ = 0;
  AlignedBuffer<Compute<S>> buffer_;
};

// A deep tile amortises reading and writing the kernel gradient; the packed dy must stay in the second-level cache.
int64_t PixelsOfTile(const DeformConv2DShape& shape, bool narrow_groups) {
  constexpr int64_t kPackedElements = 96 * 1024;
  constexpr int64_t kWidestPanel = 32;
  const int64_t slice = narrow_groups ? shape.out_channels : shape.group_out_channels();
  const int64_t packed_channels = shape.out_channels / slice * RoundUp(slice, kWidestPanel);
  const int64_t wanted = std::clamp<int64_t>(kPackedElements / packed_channels, 48, 240);
  return std::min(wanted, shape.batch * shape.out_pixels());
}

// The output channels that the inputs of some units feed: groups, or with narrow groups the channels of chunks.
template <typename S>
std::vector<OutputSlice> SlicesOf(const DeformConv2DShape& shape, const std::vector<Unit<S>>& units,
                                  bool narrow_groups) {
  std::vector<OutputSlice> slices;
  if (narrow_groups) {
    for (const Unit<S>& unit : units) {
      const bool is_new = slices.empty() || slices.back().begin != unit.chunk.begin();
      if (is_new) slices.push_back({unit.chunk.begin(), unit.chunk.count()});
    }
  } else {
    for (int64_t group = units.front().chunk.first_group(); group <= units.back().chunk.last_group(); ++group) {
      slices.push_back({group * shape.group_out_channels(), shape.group_out_channels()});
    }
  }
  return slices;
}

template <typename S>
void Accumulate(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy,
                const SimdKernels<S>& simd, bool narrow_groups, std::vector<Unit<S>>& units, int64_t tile_pixels,
                Compute<S>* dkernel) {
  using T = Compute<S>;
  const int64_t pixels = shape.batch * shape.out_pixels();
  const int64_t in_channels = shape.group_in_channels();
  const int64_t out_channels = shape.group_out_channels();
  const std::vector<OutputSlice> slices = SlicesOf(shape, units, narrow_groups);
  const int64_t panel = narrow_groups ? RoundUp(slices[0].count, simd.lanes) : simd.gemm_columns;
  PackedOutputGradient<S> packed_dy(shape, slices, panel, tile_pixels);
  AlignedBuffer<T> tile(tile_pixels * kRowStride<T>);
  for (int64_t first = 0; first < pixels; first += tile_pixels) {
    const int64_t count = std::min(tile_pixels, pixels - first);
    const bool accumulate = first > 0;
    for (Unit<S>& unit : units) {
      const ChannelChunk& chunk = unit.chunk;
      unit.plan.Update(simd, inputs.x, inputs.offset, inputs.mask, first, count);
      if (&unit == &units.front()) packed_dy.Pack(dy, unit.plan.pixels());
      simd.gather(unit.plan.Block(unit.runs), unit.plan.plan(), tile.data(), kRowStride<T>);
      T* const of_tap = dkernel + unit.tap * in_channels * shape.out_channels;
      if (narrow_groups) {
        simd.group_product_transposed({count, chunk.count(), in_channels, 1, tile.data(), kRowStride<T>,
                                       packed_dy.slice(chunk.begin()), panel, of_tap + chunk.begin(),
                                       shape.out_channels, accumulate});
        continue;
      }
      for (const ChannelSegment& segment : chunk.segments) {
        const int64_t first_out = segment.group * out_channels;
        const int64_t channel_in_group = segment.begin - segment.group * in_channels;
        simd.gemm_transposed({segment.count, out_channels, count, tile.data() + segment.begin - chunk.begin(),
                              kRowStride<T>, packed_dy.slice(first_out),
                              of_tap + channel_in_group * shape.out_channels + first_out, shape.out_channels,
                              accumulate});
      }
    }
  }
}

// On matrix units: dkernel^T = dy^T * column, in which pairs of pixels make the column matrix the right factor as it is
// gathered, and dy is transposed once for all units of a thread.
class UnitKernelGradient {
 public:
  UnitKernelGradient(const MatrixUnits& units, const DeformConv2DShape& shape)
      : units_(units),
        shape_(shape),
        outputs_(RoundUp(shape.group_out_channels(), kUnitBlock)),
        sums_(shape.taps() * shape.in_channels * outputs_) {}

  void Accumulate(const DeformConv2DInputs<BFloat16>& inputs, const BFloat16* dy, std::vector<Unit<BFloat16>>& units) {
    const SimdKernels<BFloat16>& simd = BestSimdKernels<BFloat16>();
    const int64_t first_group = units.front().chunk.first_group();
    const int64_t groups = units.back().chunk.last_group() - first_group + 1;
    AlignedBuffer<BFloat16> transposed_dy(groups * outputs_ * kUnitTileStride);
    std::fill_n(transposed_dy.data(), groups * outputs_ * kUnitTileStride, BFloat16{});
    AlignedBuffer<BFloat16> packed_columns(kTilePixels * kChunkChannels);
    const int64_t pixels = shape_.batch * shape_.out_pixels();
    for (int64_t first = 0; first < pixels; first += kTilePixels) {
      const int64_t count = std::min(kTilePixels, pixels - first);
      const int64_t depth = RoundUp(count, kUnitBlock);
      for (Unit<BFloat16>& unit : units) {
        unit.plan.Update(simd, inputs.x, inputs.offset, inputs.mask, first, count);
        if (&unit == &units.front()) {
          for (int64_t group = 0; group < groups; ++group) {
            Transpose(dy + (first_group + group) * shape_.group_out_channels(), unit.plan.pixels(), depth,
                      transposed_dy.data() + group * outputs_ * kUnitTileStride);
          }
        }
        units_.gather_pairs(unit.plan.Block(unit.runs), unit.plan.plan(), depth, packed_columns.data());
        for (const ChannelSegment& segment : unit.chunk.segments) {
          units_.multiply({outputs_, segment.count, depth,
                           transposed_dy.data() + (segment.group - first_group) * outputs_ * kUnitTileStride,
                           packed_columns.data() + (segment.begin - unit.chunk.begin()) * depth,
                           Sums(unit.chunk, unit.tap, segment), segment.count, /*accumulate=*/first > 0});
        }
      }
    }
  }

  // Brings the sums of a unit into the kernel gradient.
  void Finish(const ChannelChunk& chunk, int64_t tap, BFloat16* dkernel) {
    constexpr int64_t kStep = 16;  // so many rows of sums stay in the first-level cache
    for (const ChannelSegment& segment : chunk.segments) {
      const float* sums = Sums(chunk, tap, segment);
      const int64_t first_row = tap * shape_.group_in_channels() + segment.begin % shape_.group_in_channels();
      BFloat16* const rows = dkernel + first_row * shape_.out_channels + segment.group * shape_.group_out_channels();
      for (int64_t out = 0; out < shape_.group_out_channels(); out += kStep) {
        const int64_t end = std::min(out + kStep, shape_.group_out_channels());
        for (int64_t c = 0; c < segment.count; ++c) {
          BFloat16* const row = rows + UnitColumn(c) * shape_.out_channels;
          for (int64_t o = out; o < end; ++o) row[o] = Narrow<BFloat16>(sums[o * segment.count + c]);
        }
      }
    }
  }

  // Few enough for the packed columns to stay in the first-level cache.
  static constexpr int64_t kTilePixels = 8 * kUnitBlock;

 private:
  // Those of a segment lie together, [output, channel].
  float* Sums(const ChannelChunk& chunk, int64_t tap, const ChannelSegment& segment) {
    return sums_.data() +
           (chunk.begin() * shape_.taps() + tap * chunk.count() + segment.begin - chunk.begin()) * outputs_;
  }

  void Transpose(const BFloat16* dy, const std::vector<int64_t>& pixels, int64_t depth, BFloat16* transposed) const {
    const int64_t count = pixels.size();
    for (int64_t p = 0; p < depth; ++p) {
      const BFloat16* row = p < count ? dy + pixels[p] * shape_.out_channels : nullptr;
      for (int64_t o = 0; o < shape_.group_out_channels(); ++o) {
        transposed[o * kUnitTileStride + p] = row != nullptr ? row[o] : BFloat16{};
      }
    }
  }

  const MatrixUnits& units_;
  const DeformConv2DShape& shape_;
  const int64_t outputs_;  // of a group, in whole blocks
  AlignedBuffer<float> sums_;
};

void KernelGradientOnUnits(const MatrixUnits& matrix_units, const DeformConv2DShape& shape,
                           const DeformConv2DInputs<BFloat16>& inputs, const BFloat16* dy, BFloat16* dkernel,
                           const ParallelFor& parallel_for) {
  const std::vector<ChannelChunk> chunks = DivideChannels(shape, kChunkChannels, kUnitBlock);
  const int64_t unit_count = chunks.size() * shape.taps();
  UnitKernelGradient gradient(matrix_units, shape);
  const int64_t cost = shape.batch * shape.out_pixels() * chunks[0].count() * (4 + shape.group_out_channels() / 128);
  parallel_for(unit_count, cost, [&](int64_t begin, int64_t end) {
    std::vector<Unit<BFloat16>> units;
    units.reserve(end - begin);
    for (int64_t u = begin; u < end; ++u) {
      units.emplace_back(shape, chunks[u / shape.taps()], u % shape.taps(), UnitKernelGradient::kTilePixels);
    }
    gradient.Accumulate(inputs, dy, units);
    for (const Unit<BFloat16>& unit : units) gradient.Finish(unit.chunk, unit.tap, dkernel);
  });
}

}  // namespace

template <typename S>
void KernelGradient(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy, S* dkernel,
                    const ParallelFor& parallel_for) {
  if constexpr (std::is_same_v<S, BFloat16>) {
    if (const MatrixUnits* units = MatrixUnitsFor(shape)) {
      return KernelGradientOnUnits(*units, shape, inputs, dy, dkernel, parallel_for);
    }
  }
  const SimdKernels<S>& simd = BestSimdKernels<S>();
  const bool narrow_groups = HasNarrowGroups(shape, simd.lanes);
  const std::vector<ChannelChunk> chunks =
      DivideChannels(narrow_groups ? WithoutGroups(shape) : shape, kChunkChannels, kVectorChannels);
  const int64_t chunk_count = chunks.size();
  const int64_t tile_pixels = PixelsOfTile(shape, narrow_groups);
  SumBuffer<S> sums(dkernel, shape.taps() * shape.group_in_channels() * shape.out_channels);
  const int64_t cost = shape.batch * shape.out_pixels() * chunks[0].count() * (8 + shape.group_out_channels() / 16);
  parallel_for(chunk_count * shape.taps(), cost, [&](int64_t begin, int64_t end) {
    std::vector<Unit<S>> units;
    units.reserve(end - begin);
    for (int64_t u = begin; u < end; ++u) {
      units.emplace_back(shape, chunks[u / shape.taps()], u % shape.taps(), tile_pixels);
    }
    Accumulate(shape, inputs, dy, simd, narrow_groups, units, tile_pixels, sums.data());
  });
  sums.Finish(parallel_for);
}

#define DCNV2_INSTANTIATE(S)                                                                            \
  template void KernelGradient<S>(const DeformConv2DShape&, const DeformConv2DInputs<S>&, const S*, S*, \
                                  const ParallelFor&)
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
