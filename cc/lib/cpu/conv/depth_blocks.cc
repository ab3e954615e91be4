#include "cc/lib/cpu/conv/depth_blocks.h"

#include <algorithm>
#include <utility>

#include "cc/lib/cpu/conv/column_tile.h"

namespace dcnv2 {

std::vector<DepthBlock> DivideGroups(const DeformConv2DShape& shape, int64_t max_depth, int64_t panel) {
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
      DepthBlock block{group * shape.group_out_channels(), shape.group_out_channels(), begin, end - begin, packed, {}};
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

}  // namespace dcnv2
