// The division of the kernel matrix into blocks along its depth, as the forward pass multiplies them.
#ifndef DCNV2_CC_LIB_CPU_CONV_DEPTH_BLOCKS_H_
#define DCNV2_CC_LIB_CPU_CONV_DEPTH_BLOCKS_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cc/lib/cpu/parallel.h"
#include "cc/lib/cpu/simd/kernels.h"
#include "cc/lib/geometry.h"

namespace dcnv2 {

// Rows [begin, begin + depth) of the kernel matrix [taps * group_in_channels, out_channels], in the columns of some
// outputs.
struct DepthBlock {
  int64_t first_out, out_channels;
  int64_t begin, depth;
  int64_t packed;  // where it starts in the packed kernel
  std::vector<ChannelRun> runs;
};

// Blocks of one group each and of at most `max_depth` rows, in the order of groups and rows. Where all channels of a
// group are multiples of a number, of which `max_depth` is one too, blocks and their runs are as well.
std::vector<DepthBlock> DivideGroups(const DeformConv2DShape& shape, int64_t max_depth, int64_t panel);

// Calls pack(block, first, count) for each panel of each block: its outputs [first, first + count) of the block's.
template <typename Pack>
void ForEachPanel(const std::vector<DepthBlock>& blocks, int64_t panel, const ParallelFor& parallel_for,
                  const Pack& pack) {
  const int64_t panels = CeilDiv(blocks[0].out_channels, panel);  // the first block has as many outputs as any
  parallel_for(blocks.size() * panels, 2 * blocks[0].depth * panel, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const DepthBlock& block = blocks[unit / panels];
      const int64_t first = unit % panels * panel;
      pack(block, first, std::min(panel, block.out_channels - first));
    }
  });
}

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_CONV_DEPTH_BLOCKS_H_
