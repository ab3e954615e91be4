// The kernel gradient: dkernel[tap, c, o] = sum over pixels of column[pixel, tap, c] * dy[pixel, o].
//
// The work is divided into units of one tap and some input channels. Every unit walks all pixels in the same order and
// in tiles that follow from the shape alone, so the result is bit-identical for any number of threads; units of one
// thread walk them together and share the packed tiles of dy.
#include <algorithm>
#include <utility>
#include <vector>

#include "cc/lib/cpu/conv/deform_conv2d_backward.h"
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

}  // namespace

template <typename S>
void KernelGradient(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy, S* dkernel,
                    const ParallelFor& parallel_for) {
  const SimdKernels<S>& simd = BestSimdKernels<S>();
  const bool narrow_groups = HasNarrowGroups(shape, simd.lanes);
  const std::vector<ChannelChunk> chunks = DivideChannels(narrow_groups ? WithoutGroups(shape) : shape, kChunkChannels);
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
