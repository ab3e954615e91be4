// The products of which the column gradient is made, dcolumn = dy * kernel^T: how the work is divided, how kernel^T is
// packed, and what multiplies. There are three kinds, with the same members.
#ifndef DCNV2_CC_LIB_CPU_CONV_COLUMN_GRADIENT_H_
#define DCNV2_CC_LIB_CPU_CONV_COLUMN_GRADIENT_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "cc/lib/cpu/conv/column_tile.h"
#include "cc/lib/cpu/conv/deform_conv2d_backward.h"
#include "cc/lib/cpu/simd/kernels.h"
#include "cc/lib/cpu/simd/matrix_units.h"

namespace dcnv2 {

// A block of kernel^T: rows are output channels of a group, columns are `taps` x the channels of one segment. Of narrow
// groups, the segment and the output channels are those of a chunk, and the packed block is [tap, output, channel].
struct TransposedKernelBlock {
  ChannelSegment segment;
  int64_t first_tap, taps;
  int64_t first_out_channel, out_channels;  // among all; within one group
  bool accumulate;                          // adds to the block before
  bool complete;                            // no further block adds to it
  int64_t packed;
  std::vector<ChannelRun> runs;

  int64_t columns() const { return taps * segment.count; }
};

// What one task needs to know about its chunk of channels.
struct ChunkWork {
  ChannelChunk chunk;
  SampleRange samples;
  std::vector<TransposedKernelBlock> blocks;
  int64_t first_partial;  // samples of the chunks before, per pixel
};

struct Work {
  std::vector<ChunkWork> chunks;
  int64_t packed_size = 0;
  int64_t partials_per_pixel = 0;  // samples of all chunks
};

// What both kinds by vectors have.
template <typename S>
class VectorColumnGradient {
 public:
  // What tiles of dy and the packed kernel hold; dcolumn is always float or double.
  using Element = Compute<S>;
  static constexpr int64_t kTileStride = dcnv2::kTileStride<Element>;  // of dy
  static constexpr int64_t kTilePixels = dcnv2::kTilePixels;
  // Tiles have a multiple of so many rows. Those that lack a pixel are multiplied all the same, whatever is in them.
  static constexpr int64_t kRows = 1;

  const Work& work() const { return work_; }
  // One row of a tile of dy: the outputs of the block, of which `row` has the first.
  void CopyRow(const TransposedKernelBlock& block, const S* row, Element* out) const;

 protected:
  VectorColumnGradient(const DeformConv2DShape& shape, Work work)
      : shape_(shape), simd_(BestSimdKernels<S>()), work_(std::move(work)) {}

  const DeformConv2DShape& shape_;
  const SimdKernels<S>& simd_;
  const Work work_;
};

// In panels.
template <typename S>
class PanelColumnGradient : public VectorColumnGradient<S> {
 public:
  using typename VectorColumnGradient<S>::Element;

  explicit PanelColumnGradient(const DeformConv2DShape& shape);

  void Pack(const S* kernel, const TransposedKernelBlock& block, Element* packed) const;
  // dcolumn, of stride kTileStride<Compute<S>>, is set or added to as the block says.
  void Multiply(const TransposedKernelBlock& block, int64_t rows, const Element* dy, const Element* packed_kernel,
                Compute<S>* dcolumn) const;
};

// Several narrow groups at a time.
template <typename S>
class NarrowGroupColumnGradient : public VectorColumnGradient<S> {
 public:
  using typename VectorColumnGradient<S>::Element;

  explicit NarrowGroupColumnGradient(const DeformConv2DShape& shape);

  void Pack(const S* kernel, const TransposedKernelBlock& block, Element* packed) const;
  void Multiply(const TransposedKernelBlock& block, int64_t rows, const Element* dy, const Element* packed_kernel,
                Compute<S>* dcolumn) const;
};

// On matrix units.
class UnitColumnGradient {
 public:
  using Element = BFloat16;
  static constexpr int64_t kTileStride = kUnitTileStride;
  static constexpr int64_t kTilePixels = 6 * kUnitBlock;
  static constexpr int64_t kRows = kUnitBlock;

  UnitColumnGradient(const DeformConv2DShape& shape, const MatrixUnits& units);

  const Work& work() const { return work_; }
  void Pack(const BFloat16* kernel, const TransposedKernelBlock& block, BFloat16* packed) const;
  void CopyRow(const TransposedKernelBlock& block, const BFloat16* row, BFloat16* out) const;
  void Multiply(const TransposedKernelBlock& block, int64_t rows, const BFloat16* dy, const BFloat16* packed_kernel,
                float* dcolumn) const;

 private:
  const DeformConv2DShape& shape_;
  const MatrixUnits& units_;
  const Work work_;
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_CONV_COLUMN_GRADIENT_H_
