// Which kernel of a pass over the column matrix serves a problem on a device.
#ifndef DCNV2_CC_LIB_GPU_CONV_COLUMN_VARIANTS_H_
#define DCNV2_CC_LIB_GPU_CONV_COLUMN_VARIANTS_H_

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <limits>

#include "cc/lib/deform_conv2d.h"
#include "cc/lib/gpu/common/launch.h"
#include "cc/lib/gpu/common/options.h"

namespace dcnv2 {

// Channels, outputs, taps and their products are counted in 32 bits, which no network comes near to exceed.
template <typename S>
bool FitsColumnKernels(const DeformConv2DShape& shape) {
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  int64_t depth, outputs;
  return CheckedProduct({shape.taps(), shape.in_channels, static_cast<int64_t>(sizeof(S))}, &depth) && depth <= kMax &&
         CheckedProduct({shape.out_channels, static_cast<int64_t>(sizeof(S))}, &outputs) && outputs <= kMax;
}

// Those numbers, for kernels: quotients that are found in constant memory need neither divisions nor registers.
struct ColumnSizes {
  int channels, outputs, taps;
  int group_channels, group_outputs, deformable_group_channels;

  explicit ColumnSizes(const DeformConv2DShape& shape)
      : channels(static_cast<int>(shape.in_channels)),
        outputs(static_cast<int>(shape.out_channels)),
        taps(static_cast<int>(shape.taps())),
        group_channels(static_cast<int>(shape.group_in_channels())),
        group_outputs(static_cast<int>(shape.group_out_channels())),
        deformable_group_channels(static_cast<int>(shape.deformable_group_channels())) {}
};

// Whether vectors of 16 bytes never cross a border between groups, and start where memory allows it.
template <typename S>
bool CanReadVectors(const DeformConv2DShape& shape, std::initializer_list<const void*> tensors) {
  constexpr int64_t kSize = 16 / sizeof(S);
  return shape.group_in_channels() % kSize == 0 && shape.group_out_channels() % kSize == 0 &&
         shape.deformable_group_channels() % kSize == 0 &&
         std::all_of(tensors.begin(), tensors.end(), [](const void* tensor) { return IsAligned(tensor, 16); });
}

// Shared memory for a block that needs `bytes`: more than that where fewer blocks than fit are to share a
// multiprocessor.
inline int SharedBytes(const GpuDevice& device, const GpuTuning& tuning, int bytes) {
  if (tuning.blocks_per_multiprocessor == 0) return bytes;
  const int too_much_for_another = device.shared_memory_per_multiprocessor / (tuning.blocks_per_multiprocessor + 1) + 1;
  return std::max(bytes, std::min(too_much_for_another, device.shared_memory_per_block));
}

// How long a tile takes for a step along the depth on a multiprocessor that is busy with several of them, and on one
// that has no other.
struct TileCost {
  int64_t busy, alone;
};

// How long `tiles` take for a step, in the cost's unit.
inline int64_t TilesTime(const GpuDevice& device, int64_t tiles, const TileCost& cost) {
  return std::max(CeilDiv(tiles, device.multiprocessors) * cost.busy, cost.alone);
}

// One way to cut a problem into tiles. A Tile has
//   Fits(device)
//   Time(device, arguments, cost)                            in the unit that all candidates' costs have; kCannotBeHad
//                                                            where it does not serve the problem
//   Launch(device, tuning, cost, arguments, stream)
template <typename Tile>
struct Candidate {
  TileCost cost;
};

// The time of a tile that does not serve a problem.
constexpr int64_t kCannotBeHad = std::numeric_limits<int64_t>::max();

// Launches the fastest of the candidates that fit, or the one that the tuning asks for, counted from 1.
template <typename Arguments, typename... Tiles>
cudaError_t LaunchFastest(const GpuDevice& device, const GpuTuning& tuning, const Arguments& arguments,
                          cudaStream_t stream, const Candidate<Tiles>&... candidates) {
  const int64_t times[] = {Tiles::Fits(device) ? Tiles::Time(device, arguments, candidates.cost) : kCannotBeHad...};
  auto chosen = std::min_element(std::begin(times), std::end(times)) - std::begin(times);
  const int asked_for = tuning.tile - 1;
  if (asked_for >= 0 && asked_for < static_cast<int>(sizeof...(Tiles)) && times[asked_for] != kCannotBeHad) {
    chosen = asked_for;
  }
  cudaError_t status = cudaErrorInvalidValue;
  int index = 0;
  const auto launch_if_chosen = [&](auto tile, const TileCost& cost) {
    if (index++ == chosen) status = decltype(tile)::Launch(device, tuning, cost, arguments, stream);
  };
  (launch_if_chosen(Tiles(), candidates.cost), ...);
  return status;
}

// The device as far as it may decide how sums are ordered: in deterministic mode multiprocessors are as many as those
// of one model, so that others with the same compute capability give the same bits.
inline cudaError_t DescribeGpuFor(const GpuOptions& options, GpuDevice* device) {
  constexpr int kNominalMultiprocessors = 132;
  const cudaError_t error = DescribeGpu(device);
  if (options.deterministic) device->multiprocessors = kNominalMultiprocessors;
  return error;
}

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_CONV_COLUMN_VARIANTS_H_
