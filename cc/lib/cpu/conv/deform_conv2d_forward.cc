// Forward: an implicit matrix product. For a tile of output pixels, blocks of the column matrix are gathered into
// scratch memory and multiplied with the packed kernel at once; the whole column matrix never exists.
#include <algorithm>
#include <type_traits>
#include <vector>

#include "cc/lib/cpu/conv/column_tile.h"
#include "cc/lib/cpu/conv/deform_conv2d.h"

namespace dcnv2 {
namespace {

// Consecutive rows [begin, begin + depth) of one group's kernel matrix [taps * group_in_channels, group_out_channels].
struct DepthBlock {
  int64_t group, begin, depth;
  int64_t packed;  // where it starts in the packed kernel
  std::vector<ChannelRun> runs;
};

std::vector<DepthBlock> DivideDepth(const DeformConv2DShape& shape, int64_t max_depth, int64_t panel) {
  const int64_t channels = shape.group_in_channels();
  const SampleRange samples = AllSamples(shape);
  std::vector<DepthBlock> blocks;
  int64_t packed = 0;
  for (int64_t group = 0; group < shape.groups; ++group) {
    // Whole taps per block where they fit, so that a gather reads long runs of channels.
    const int64_t whole_taps = std::max<int64_t>(1, max_depth / channels);
    const int64_t step = std::min(whole_taps * channels, max_depth);
    const int64_t depth_end = shape.taps() * channels;
    for (int64_t begin = 0; begin < depth_end;) {
      // With more channels than fit a block, blocks end at taps all the same.
      const int64_t tap_end = (begin / channels + 1) * channels;
      const int64_t end = channels > max_depth ? std::min(begin + step, tap_end) : std::min(begin + step, depth_end);
      DepthBlock block{group, begin, end - begin, packed, {}};
      for (int64_t k = begin; k < end;) {
        const int64_t tap = k / channels;
        const int64_t first = group * channels + k % channels;
        const int64_t count = std::min(end, (tap + 1) * channels) - k;
        for (const ChannelSegment& segment : SplitAtGroups(shape, first, first + count)) {
          block.runs.push_back({samples.Index(segment.deformable_group, tap), segment.begin, segment.count, k - begin});
          k += segment.count;
        }
      }
      packed += PackedGemmBSize(block.depth, shape.group_out_channels(), panel);
      blocks.push_back(std::move(block));
      begin = end;
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
  const SimdKernels<S>& simd = BestSimdKernels<S>();
  const int64_t out_channels = shape.group_out_channels();
  const int64_t panel = simd.gemm_columns;
  const std::vector<DepthBlock> blocks = DivideDepth(shape, kTileStride<T>, panel);
  const DepthBlock& last = blocks.back();
  AlignedBuffer<T> packed_kernel(last.packed + PackedGemmBSize(last.depth, out_channels, panel));
  const int64_t panels = CeilDiv(out_channels, panel);
  parallel_for(blocks.size() * panels, 2 * blocks[0].depth * panel, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const DepthBlock& block = blocks[unit / panels];
      const int64_t first = unit % panels * panel;
      const S* rows = inputs.kernel + block.begin * shape.out_channels + block.group * out_channels + first;
      PackPanel(
          block.depth, std::min(panel, out_channels - first), panel,
          [&](int64_t k) { return rows + k * shape.out_channels; },
          packed_kernel.data() + block.packed + first * block.depth);
    }
  });

  const PixelOrder order(shape);
  // Every tile reads the whole packed kernel: larger tiles read one that the second-level cache cannot hold less often.
  constexpr int64_t kCachedElements = 256 * 1024;
  const bool cached = blocks[0].depth * out_channels <= kCachedElements;
  const int64_t tile_pixels = PixelsPerTile<T>(shape.samples_per_pixel(), cached ? kTilePixels : 2 * kTilePixels);
  const int64_t units = CeilDiv(pixels, simd.gemm_rows);
  const int64_t cost = simd.gemm_rows * shape.taps() * shape.group_in_channels() * (8 + shape.out_channels / 16);
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
        S* const out = y + block.group * out_channels;
        GemmArguments<T> product{count,
                                 out_channels,
                                 block.depth,
                                 tile.data(),
                                 kTileStride<T>,
                                 packed_kernel.data() + block.packed,
                                 sums.data(),
                                 out_channels,
                                 /*accumulate=*/block.begin > 0};
        if constexpr (kSumsInPlace) {
          product.c_stride = shape.out_channels;
          for (int64_t p = 0; p < count; p += product.rows) {
            product.rows = std::min(count - p, order.RunLength(first + p));
            product.a = tile.data() + p * kTileStride<T>;
            product.c = out + plan.pixels()[p] * shape.out_channels;
            simd.gemm(product);
          }
        } else {
          simd.gemm(product);
          const bool complete = block.begin + block.depth == shape.taps() * shape.group_in_channels();
          for (int64_t p = 0; complete && p < count; ++p) {
            simd.narrow(sums.data() + p * out_channels, out_channels, out + plan.pixels()[p] * shape.out_channels);
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
