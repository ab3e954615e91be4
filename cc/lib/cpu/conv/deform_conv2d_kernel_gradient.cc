// The kernel gradient: dkernel[tap, c, o] = sum over pixels of column[pixel, tap, c] * dy[pixel, o].
//
// The work is divided into units of one tap and some input channels. Every unit walks all pixels in the same order and
// in tiles that follow from the shape alone, so the result is bit-identical for any number of threads; units of one
// thread walk them together and share the packed tiles of dy.
#include <algorithm>
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
        plan(shape, samples, tile_pixels, PlanKind::kForward) {
    for (const ChannelSegment& segment : chunk.segments) {
      runs.push_back(
          {samples.Index(segment.deformable_group, tap), segment.begin, segment.count, segment.begin - chunk.begin()});
    }
  }

  const ChannelChunk& chunk;
  const int64_t tap;
  const SampleRange samples;
  TilePlan<S> plan;
  std::vector<ChannelRun> runs;
};

// The tiles of dy of all groups in a range, each packed as the right side of a product.
template <typename S>
class PackedOutputGradient {
 public:
  PackedOutputGradient(const DeformConv2DShape& shape, int64_t first_group, int64_t groups, int64_t panel,
                       int64_t max_pixels)
      : shape_(shape),
        first_group_(first_group),
        groups_(groups),
        panel_(panel),
        buffer_(groups * PackedGemmBSize(max_pixels, shape.group_out_channels(), panel)) {}

  void Pack(const S* dy, const std::vector<int64_t>& pixels) {
    Compute<S>* packed = buffer_.data();
    group_size_ = PackedGemmBSize(pixels.size(), shape_.group_out_channels(), panel_);
    for (int64_t g = first_group_; g < first_group_ + groups_; ++g) {
      for (int64_t first = 0; first < shape_.group_out_channels(); first += panel_) {
        const int64_t valid = std::min(panel_, shape_.group_out_channels() - first);
        const S* columns = dy + g * shape_.group_out_channels() + first;
        packed = PackPanel(
            pixels.size(), valid, panel_, [&](int64_t p) { return columns + pixels[p] * shape_.out_channels; }, packed);
      }
    }
  }
  const Compute<S>* group(int64_t group) { return buffer_.data() + (group - first_group_) * group_size_; }

 private:
  const DeformConv2DShape& shape_;
  const int64_t first_group_, groups_, panel_;
  int64_t group_size_ = 0;
  AlignedBuffer<Compute<S>> buffer_;
};

// A deep tile amortises reading and writing the kernel gradient; the packed dy must stay in the second-level cache.
int64_t PixelsOfTile(const DeformConv2DShape& shape) {
  constexpr int64_t kPackedElements = 96 * 1024;
  constexpr int64_t kWidestPanel = 32;
  const int64_t packed_channels = shape.groups * CeilDiv(shape.group_out_channels(), kWidestPanel) * kWidestPanel;
  const int64_t wanted = std::clamp<int64_t>(kPackedElements / packed_channels, 48, 240);
  return std::min(wanted, shape.batch * shape.out_pixels());
}

template <typename S>
void Accumulate(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy,
                const SimdKernels<S>& simd, std::vector<Unit<S>>& units, int64_t tile_pixels, Compute<S>* dkernel) {
  using T = Compute<S>;
  const int64_t pixels = shape.batch * shape.out_pixels();
  const int64_t out_channels = shape.group_out_channels();
  const int64_t first_group = units.front().chunk.first_group();
  const int64_t groups = units.back().chunk.last_group() - first_group + 1;
  PackedOutputGradient<S> packed_dy(shape, first_group, groups, simd.gemm_columns, tile_pixels);
  AlignedBuffer<T> tile(tile_pixels * kRowStride<T>);
  for (int64_t first = 0; first < pixels; first += tile_pixels) {
    const int64_t count = std::min(tile_pixels, pixels - first);
    for (Unit<S>& unit : units) {
      unit.plan.Update(simd, inputs.x, inputs.offset, inputs.mask, first, count);
      if (&unit == &units.front()) packed_dy.Pack(dy, unit.plan.pixels());
      simd.gather(unit.plan.Block(unit.runs), unit.plan.plan(), tile.data(), kRowStride<T>);
      for (const ChannelSegment& segment : unit.chunk.segments) {
        const int64_t channel_in_group = segment.begin - segment.group * shape.group_in_channels();
        T* out = dkernel + (unit.tap * shape.group_in_channels() + channel_in_group) * shape.out_channels +
                 segment.group * out_channels;
        simd.gemm_transposed({segment.count, out_channels, count, tile.data() + segment.begin - unit.chunk.begin(),
                              kRowStride<T>, packed_dy.group(segment.group), out, shape.out_channels,
                              /*accumulate=*/first > 0});
      }
    }
  }
}

}  // namespace

template <typename S>
void KernelGradient(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, const S* dy, S* dkernel,
                    const ParallelFor& parallel_for) {
  const SimdKernels<S>& simd = BestSimdKernels<S>();
  const std::vector<ChannelChunk> chunks = DivideChannels(shape, kChunkChannels);
  const int64_t chunk_count = chunks.size();
  const int64_t tile_pixels = PixelsOfTile(shape);
  SumBuffer<S> sums(dkernel, shape.taps() * shape.group_in_channels() * shape.out_channels);
  const int64_t cost = shape.batch * shape.out_pixels() * chunks[0].count() * (8 + shape.group_out_channels() / 16);
  parallel_for(chunk_count * shape.taps(), cost, [&](int64_t begin, int64_t end) {
    std::vector<Unit<S>> units;
    units.reserve(end - begin);
    for (int64_t u = begin; u < end; ++u) {
      units.emplace_back(shape, chunks[u / shape.taps()], u % shape.taps(), tile_pixels);
    }
    Accumulate(shape, inputs, dy, simd, units, tile_pixels, sums.data());
  });
  sums.Finish(parallel_for);
}

#define DCNV2_INSTANTIATE(S)                                                                            \
  template void KernelGradient<S>(const DeformConv2DShape&, const DeformConv2DInputs<S>&, const S*, S*, \
                                  const ParallelFor&)
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
