// Which kernel of a pass over the column matrix serves a problem on a device.
#ifndef DCNV2_CC_LIB_GPU_COLUMN_VARIANTS_H_
#define DCNV2_CC_LIB_GPU_COLUMN_VARIANTS_H_

#include <algorithm>
#include <initializer_list>
#include <limits>

#include "cc/lib/deform_conv.h"
#include "cc/lib/gpu/launch.h"
#include "cc/lib/gpu/options.h"

namespace dcnv2 {

// Channels, outputs, taps and their products are counted in 32 bits, which no network comes near to exceed.
template <typename S>
bool FitsColumnKernels(const DeformConvShape& shape) {
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  int64_t depth, outputs;
  return CheckedProduct({shape.taps(), shape.in_channels, static_cast<int64_t>(sizeof(S))}, &depth) && depth <= kMax &&
         CheckedProduct({shape.out_channels, static_cast<int64_t>(sizeof(S))}, &outputs) && outputs <= kMax;
}

// Those numbers, for kernels: quotients that are found in constant memory need neither divisions nor registers.
struct ColumnSizes {
  int channels, outputs, taps;
  int group_channels, group_outputs, deformable_group_channels;

  explicit ColumnSizes(const DeformConvShape& shape)
      : channels(static_cast<int>(shape.in_channels)),
        outputs(static_cast<int>(shape.out_channels)),
        taps(static_cast<int>(shape.taps())),
        group_channels(static_cast<int>(shape.group_in_channels())),
        group_outputs(static_cast<int>(shape.group_out_channels())),
        deformable_group_channels(static_cast<int>(shape.deformable_group_channels())) {}
};

// Tiles of pixels are parts of vertical strips: two rows of a strip then sample about the same rows of the map at about
// the same time, which so come from the first-level cache. This is how wide strips are; narrow maps are one strip.
inline int64_t StripWidth(const DeformConvShape& shape) {
  constexpr int64_t kWidth = 16;
  return CeilDiv(shape.out_width, CeilDiv(shape.out_width, kWidth));
}

// Whether vectors of 16 bytes never cross a border between groups, and start where memory allows it.
template <typename S>
bool CanReadVectors(const DeformConvShape& shape, std::initializer_list<const void*> tensors) {
  constexpr int64_t kSize = 16 / sizeof(S);
  return shape.group_in_channels() % kSize == 0 && shape.group_out_channels() % kSize == 0 &&
         shape.deformable_group_channels() % kSize == 0 &&
         std::all_of(tensors.begin(), tensors.end(), [](const void* tensor) { return IsAligned(tensor, 16); });
}

// Of the times of candidates the index of the least; or of the one that is asked for, counted from 1, if it can be had.
constexpr int64_t kCannotBeHad = std::numeric_limits<int64_t>::max();
inline int ChooseCandidate(std::initializer_list<int64_t> times, int asked_for) {
  const int64_t* const begin = times.begin();
  if (asked_for >= 1 && asked_for <= static_cast<int>(times.size()) && begin[asked_for - 1] != kCannotBeHad) {
    return asked_for - 1;
  }
  return static_cast<int>(std::min_element(begin, times.end()) - begin);
}

// Shared memory for a block that needs `bytes`: more than that where fewer blocks than fit are to share a
// multiprocessor.
inline int SharedBytes(const GpuDevice& device, const GpuTuning& tuning, int bytes) {
  if (tuning.blocks_per_multiprocessor == 0) return bytes;
  const int too_much_for_another = device.shared_memory_per_multiprocessor / (tuning.blocks_per_multiprocessor + 1) + 1;
  return std::max(bytes, std::min(too_much_for_another, device.shared_memory_per_block));
}

// How long `tiles` take, in the units of the arguments, where a multiprocessor that is busy with several of them needs
// `busy` for each, and one that has a single one `alone`.
inline int64_t TilesTime(const GpuDevice& device, int64_t tiles, int64_t busy, int64_t alone) {
  return std::max(CeilDiv(tiles, device.multiprocessors) * busy, alone);
}

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_COLUMN_VARIANTS_H_
