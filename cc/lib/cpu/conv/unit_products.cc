#include "cc/lib/cpu/conv/unit_products.h"

#include <algorithm>
#include <vector>

#include "cc/lib/cpu/aligned_buffer.h"
#include "cc/lib/cpu/conv/column_tile.h"
#include "cc/lib/cpu/conv/depth_blocks.h"

namespace dcnv2 {
namespace {

constexpr int64_t kUnitTilePixels = 6 * kUnitBlock;

}  // namespace

const MatrixUnits* MatrixUnitsFor(const DeformConv2DShape& shape) {
  const bool whole_blocks =
      shape.group_in_channels() % kUnitBlock == 0 && shape.deformable_group_channels() % kUnitBlock == 0;
  return whole_blocks ? BestMatrixUnits() : nullptr;
}

void ForwardOnUnits(const MatrixUnits& units, const DeformConv2DShape& shape,
                    const DeformConv2DInputs<BFloat16>& inputs, BFloat16* y, const ParallelFor& parallel_for) {
  const std::vector<DepthBlock> blocks = DivideGroups(shape, kUnitTileColumns, kUnitBlock);
  const int64_t out_channels = shape.group_out_channels();
  const int64_t padded_channels = RoundUp(out_channels, kUnitBlock);
  AlignedBuffer<BFloat16> packed_kernel(blocks.back().packed + blocks.back().depth * padded_channels);
  ForEachPanel(blocks, kUnitBlock, parallel_for, [&](const DepthBlock& block, int64_t first, int64_t count) {
    const BFloat16* rows = inputs.kernel + block.begin * shape.out_channels + block.first_out + first;
    PackPairs(
        block.depth, count, [&](int64_t k) { return rows + UnitColumn(k) * shape.out_channels; },
        packed_kernel.data() + block.packed + first * block.depth);
  });

  const SimdKernels<BFloat16>& simd = BestSimdKernels<BFloat16>();
  const int64_t pixels = shape.batch * shape.out_pixels();
  const int64_t tile_pixels = PixelsPerTile<float>(shape.samples_per_pixel(), kUnitTilePixels);
  const int64_t padded_pixels = RoundUp(tile_pixels, kUnitBlock);
  const int64_t cost = kUnitBlock * shape.taps() * shape.group_in_channels() * (4 + shape.out_channels / 128);
  parallel_for(CeilDiv(pixels, kUnitBlock), cost, [&](int64_t unit_begin, int64_t unit_end) {
    const int64_t range_end = std::min(pixels, unit_end * kUnitBlock);
    TilePlan<BFloat16> plan(shape, AllSamples(shape), tile_pixels, PlanKind::kForward);
    // Rows of pixels that are not there are multiplied all the same.
    AlignedBuffer<BFloat16> tile(padded_pixels * kUnitTileStride);
    std::fill_n(tile.data(), padded_pixels * kUnitTileStride, BFloat16{});
    AlignedBuffer<float> sums(padded_pixels * padded_channels);
    for (int64_t first = unit_begin * kUnitBlock; first < range_end; first += tile_pixels) {
      const int64_t count = std::min(tile_pixels, range_end - first);
      plan.Update(simd, inputs.x, inputs.offset, inputs.mask, first, count);
      for (const DepthBlock& block : blocks) {
        units.gather(plan.Block(block.runs), plan.plan(), tile.data());
        units.multiply({RoundUp(count, kUnitBlock), padded_channels, block.depth, tile.data(),
                        packed_kernel.data() + block.packed, sums.data(), padded_channels,
                        /*accumulate=*/block.begin > 0});
        const bool complete = block.begin + block.depth == shape.taps() * shape.group_in_channels();
        for (int64_t p = 0; complete && p < count; ++p) {
          units.narrow(sums.data() + p * padded_channels, out_channels,
                       y + plan.pixels()[p] * shape.out_channels + block.first_out);
        }
      }
    }
  });
}

}  // namespace dcnv2
