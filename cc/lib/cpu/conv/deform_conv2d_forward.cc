// Forward: an implicit matrix product. For a tile of output pixels, blocks of the column matrix are gathered into
// scratch memory and multiplied with the packed kernel at once; the whole column matrix never exists. A block belongs
// to one group, or to channels of many narrow ones.
#include <algorithm>
#include <type_traits>
#include <vector>

#include "cc/lib/cpu/conv/column_tile.h"
#include "cc/lib/cpu/conv/deform_conv2d.h"
#include "cc/lib/cpu/conv/depth_blocks.h"
#include "cc/lib/cpu/conv/unit_products.h"

namespace dcnv2 {
namespace {

// How many channels of narrow groups a block has, so that all taps of them fit a tile where they can.
int64_t NarrowBlockChannels(const DeformConv2DShape& shape, int64_t max_columns, int64_t lanes) {
  const int64_t most = std::max(lanes, max_columns / shape.taps() / lanes * lanes);
  return RoundUp(CeilDiv(shape.in_channels, CeilDiv(shape.in_channels, most)), lanes);
}

// Blocks of `width` channels, with as many columns for every tap.
std::vector<DepthBlock> DivideNarrowGroups(const DeformConv2DShape& shape, int64_t max_columns, int64_t width) {
  const int64_t taps_per_block = std::min(max_columns / width, shape.taps());
  const SampleRange samples = AllSamples(shape);
  std::vector<DepthBlock> blocks;
  int64_t packed = 0;
  for (int64_t first = 0; first < shape.in_channels; first += width) {
    const int64_t end = std::min(first + width, shape.in_channels);
    const std::vector<ChannelSegment> segments = SplitAtGroups(WithoutGroups(shape), first, end);
    for (int64_t tap = 0; tap < shape.taps(); tap += taps_per_block) {
      const int64_t taps = std::min(taps_per_block, shape.taps() - tap);
      const int64_t depth = taps * shape.group_in_channels();
      blocks.push_back({first, end - first, tap * shape.group_in_channels(), depth, packed,
                        RunsOfTaps(samples, segments, tap, taps, width)});
      packed += PackedGemmBSize(depth, end - first, width);
    }
  }
  return blocks;
}

}  // namespace

template <typename S>
void DeformConv2DForward(const DeformConv2DShape& shape, const DeformConv2DInputs<S>& inputs, S* y,
                         const ParallelFor& parallel_for) {
  using T = Compute<S>;
  if (shape.empty()) return;
  const int64_t pixels = shape.batch * shape.out_pixels();
  if (shape.samples_nothing()) {
    std::fill_n(y, pixels * shape.out_channels, S{});
    return;
  }
  if constexpr (std::is_same_v<S, BFloat16>) {
    if (const MatrixUnits* units = MatrixUnitsFor(shape)) return ForwardOnUnits(*units, shape, inputs, y, parallel_for);
  }
  const SimdKernels<S>& simd = BestSimdKernels<S>();
  const bool narrow_groups = HasNarrowGroups(shape, simd.lanes);
  const int64_t panel = narrow_groups ? NarrowBlockChannels(shape, kTileStride<T>, simd.lanes) : simd.gemm_columns;
  const std::vector<DepthBlock> blocks =
      narrow_groups ? DivideNarrowGroups(shape, kTileStride<T>, panel) : DivideGroups(shape, kTileStride<T>, panel);
  const DepthBlock& last = blocks.back();
  AlignedBuffer<T> packed_kernel(last.packed + PackedGemmBSize(last.depth, last.out_channels, panel));
  const int64_t out_channels = blocks[0].out_channels;  // the most of any block
  ForEachPanel(blocks, panel, parallel_for, [&](const DepthBlock& block, int64_t first, int64_t count) {
    const S* rows = inputs.kernel + block.begin * shape.out_channels + block.first_out + first;
    PackPanel(
        block.depth, count, panel, [&](int64_t k) { return rows + k * shape.out_channels; },
        packed_kernel.data() + block.packed + first * block.depth);
  });

  const PixelOrder order(shape);
  // Every tile reads the whole packed kernel: larger tiles read one that the second-level cache cannot hold less often.
  constexpr int64_t kCachedElements = 256 * 1024;
  const bool cached = blocks[0].depth * out_channels <= kCachedElements;
  const int64_t tile_pixels = PixelsPerTile<T>(shape.samples_per_pixel(), cached ? kTilePixels : 2 * kTilePixels);
  const int64_t units = CeilDiv(pixels, simd.gemm_rows);
  const int64_t cost = simd.gemm_rows * shape.taps() * shape.group_in_channels() * (8 + shape.out_channels / 16);
  const auto multiply = [&](const DepthBlock& block, int64_t rows, const T* a, T* c, int64_t c_stride) {
    const T* b = packed_kernel.data() + block.packed;
    const bool accumulate = block.begin > 0;
    if (narrow_groups) {
      const int64_t width = shape.group_in_channels();
      simd.group_product(
          {rows, block.out_channels, width, block.depth / width, a, kTileStride<T>, b, panel, c, c_stride, accumulate});
    } else {
      simd.gemm({rows, block.out_channels, block.depth, a, kTileStride<T>, b, c, c_stride, accumulate});
    }
  };
  // Sums of 16-bit outputs need memory of their own.
  constexpr bool kSumsInPlace = std::is_same_v<S, T>;
  parallel_for(units, cost, [&](int64_t unit_begin, int64_t unit_end) {
    const int64_t range_end = std::min(pixels, unit_end * simd.gemm_rows);
    TilePlan<S> plan(shape, AllSamples(shape), tile_pixels, PlanKind::kForward);
    AlignedBuffer<T> tile(tile_pixels * kTileStride<T>);
    AlignedBuffer<T> sums(kSumsInPlace ? 0 : tile_pixels * out_channels);
    for (int64_t first = unit_begin * simd.gemm_rows; first < range_end; first += tile_pixels) {
      const int64_t count = std::min(tile_pixels, range_end - first);
      plan.Update(simd, inputs.x, inputs.offset, inputs.mask, first, count);
      for (const DepthBlock& block : blocks) {
        simd.gather(plan.Block(block.runs), plan.plan(), tile.data(), kTileStride<T>);
        S* const out = y + block.first_out;
        if constexpr (kSumsInPlace) {
          for (int64_t p = 0, rows = 0; p < count; p += rows) {
            rows = std::min(count - p, order.RunLength(first + p));
            multiply(block, rows, tile.data() + p * kTileStride<T>, out + plan.pixels()[p] * shape.out_channels,
                     shape.out_channels);
          }
        } else {
          multiply(block, count, tile.data(), sums.data(), out_channels);
          const bool complete = block.begin + block.depth == shape.taps() * shape.group_in_channels();
          for (int64_t p = 0; complete && p < count; ++p) {
            simd.narrow(sums.data() + p * out_channels, block.out_channels,
                        out + plan.pixels()[p] * shape.out_channels);
          }
        }
      }
    }
  });
}

#define DCNV2_INSTANTIATE(S) \
  template void DeformConv2DForward<S>(const DeformConv2DShape&, const DeformConv2DInputs<S>&, S*, const ParallelFor&)
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
