// How the input gradient is divided among blocks: which pixels and taps a block deals with, and how much of the map its
// window covers (see gradient_window.cuh).
#ifndef DCNV2_CC_LIB_GPU_CONV_GRADIENT_TILING_H_
#define DCNV2_CC_LIB_GPU_CONV_GRADIENT_TILING_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "cc/lib/deform_conv2d.h"
#include "cc/lib/gpu/common/launch.h"
#include "cc/lib/gpu/conv/column_variants.h"

namespace dcnv2 {

// Maps of output pixels, one after the other.
struct PixelMaps {
  int64_t count, height, width;
};

struct GradientTiling {
  int rows, columns;  // of a tile of pixels
  int taps;           // of a block, in their order: all, whole rows of the kernel, or one
  int window_rows, window_columns;
  int margin_above, margin_left;  // of the window around what the tile samples without offsets; may be negative

  int parts;  // into which the taps are divided
  int64_t tiles_per_row, tiles_per_map, blocks;
  double cycles;  // that all blocks take, as estimated
};

// What a block needs, and how long that takes.
struct GradientBlock {
  int bytes, bytes_per_tap, bytes_per_window_pixel;
  int64_t chunks;  // of channels
  // Cycles of a multiprocessor for a chunk, counted and not measured: for a sample, what is added to that where the
  // sample falls outside of the window, and for a pixel of the window.
  double sample, outside, window_pixel;
  double alone;  // how much longer it takes on a multiprocessor that has no other block
};

// For tiles of at most kPixels pixels.
template <int kPixels>
class GradientTilingSearch {
 public:
  // `windowed`: whether there are windows at all.
  GradientTilingSearch(const DeformConv2DShape& shape, const PixelMaps& maps, const GpuDevice& device, bool windowed)
      : shape_(shape), maps_(maps), device_(device), windowed_(windowed) {
    // Near to squares, unless the map is narrow.
    const int64_t most = std::max<int64_t>(kMostRows, kPixels / maps.width);
    for (int i = 0; i < kTiles; ++i) tiles_[i] = ChooseTile(most - i);
  }

  // The fastest with so many blocks at once on a multiprocessor; of no blocks if they do not fit.
  GradientTiling Best(const GradientBlock& block, int blocks_per_multiprocessor) const {
    GradientTiling best = {};
    // From compute capability 8.0 on a block takes 1 KB for itself.
    const int reserved = device_.capability >= 80 ? 1024 : 0;
    const int memory = std::min(device_.shared_memory_per_multiprocessor / blocks_per_multiprocessor - reserved,
                                device_.shared_memory_per_block);
    const auto consider = [&](int64_t taps) {
      const int64_t free = memory - block.bytes - taps * block.bytes_per_tap;
      if (free < 0) return;
      for (GradientTiling tiling : tiles_) {
        tiling.taps = static_cast<int>(taps);
        tiling.parts = static_cast<int>(CeilDiv(shape_.taps(), taps));
        tiling.blocks = maps_.count * tiling.tiles_per_map * shape_.deformable_groups * tiling.parts;
        if (windowed_) ChooseWindow(free / block.bytes_per_window_pixel, &tiling);
        Estimate(block, blocks_per_multiprocessor, &tiling);
        if (best.blocks == 0 || tiling.cycles < best.cycles) best = tiling;
      }
    };
    // All taps first: of equals the first is chosen.
    for (int64_t rows = shape_.kernel_height; rows > 0; --rows) consider(rows * shape_.kernel_width);
    if (shape_.kernel_width > 1) consider(1);
    return best;
  }

 private:
  static constexpr int kLeastRows = 4, kMostRows = 16;  // of a tile
  static constexpr int kTiles = kMostRows - kLeastRows + 1;
  // Offsets that windows leave room for, and those that are taken for usual, in pixels.
  static constexpr int64_t kMaxMargin = 4, kUsualMargin = 2;

  struct Extent {
    int64_t rows, columns;
  };

  // Of as many rows, or less where so the tiles become more alike.
  GradientTiling ChooseTile(int64_t rows) const {
    const auto divide = [](int64_t size, int64_t most) { return CeilDiv(size, CeilDiv(size, most)); };
    // Pixels of a tile are counted in 32 bits.
    if (maps_.width > std::numeric_limits<int32_t>::max() / kPixels) rows = 1;
    GradientTiling tiling = {};
    tiling.rows = static_cast<int>(divide(maps_.height, rows));
    tiling.columns = static_cast<int>(divide(maps_.width, kPixels / tiling.rows));
    tiling.tiles_per_row = CeilDiv(maps_.width, tiling.columns);
    tiling.tiles_per_map = CeilDiv(maps_.height, tiling.rows) * tiling.tiles_per_row;
    return tiling;
  }

  // What a tile samples at the taps of a block without offsets.
  Extent Footprint(const GradientTiling& tiling) const {
    const int64_t tap_rows = CeilDiv(tiling.taps, shape_.kernel_width);
    const int64_t tap_columns = tiling.taps == 1 ? 1 : shape_.kernel_width;
    return {(tiling.rows - 1) * shape_.stride.height + (tap_rows - 1) * shape_.dilation.height + 1,
            (tiling.columns - 1) * shape_.stride.width + (tap_columns - 1) * shape_.dilation.width + 1};
  }

  Extent WithMargin(const Extent& footprint, int64_t margin) const {
    return {std::min(footprint.rows + 2 * margin, shape_.in_height),
            std::min(footprint.columns + 2 * margin, shape_.in_width)};
  }

  // The footprint with margins, as far as `pixels` go; where they do not, as square as possible.
  void ChooseWindow(int64_t pixels, GradientTiling* tiling) const {
    const Extent footprint = Footprint(*tiling);
    Extent window = WithMargin(footprint, kMaxMargin);
    const auto side = static_cast<int64_t>(std::sqrt(static_cast<double>(pixels)));
    window.rows = std::min(window.rows, std::max(side, pixels / window.columns));
    if (window.rows > 0) window.columns = std::min(window.columns, pixels / window.rows);
    tiling->window_rows = static_cast<int>(window.rows);
    tiling->window_columns = window.rows > 0 ? static_cast<int>(window.columns) : 0;
    // Samples between two pixels need the second.
    tiling->margin_above = static_cast<int>((window.rows - footprint.rows) / 2);
    tiling->margin_left = static_cast<int>((window.columns - footprint.columns) / 2);
  }

  void Estimate(const GradientBlock& block, int blocks_per_multiprocessor, GradientTiling* tiling) const {
    double sample = block.sample;
    if (windowed_) {
      const Extent usual = WithMargin(Footprint(*tiling), kUsualMargin);
      const auto covered = [](int window, int64_t samples) {
        return std::min(1.0, static_cast<double>(window) / static_cast<double>(samples));
      };
      const double inside = covered(tiling->window_rows, usual.rows) * covered(tiling->window_columns, usual.columns);
      sample += (1 - inside) * block.outside;
    }
    const double chunk =
        sample * tiling->taps * kPixels + block.window_pixel * tiling->window_rows * tiling->window_columns;
    const double busy = chunk * static_cast<double>(block.chunks);
    const double alone = block.alone * busy;
    const auto rounds = static_cast<double>(CeilDiv(tiling->blocks, device_.multiprocessors));
    tiling->cycles = std::max(rounds * (blocks_per_multiprocessor > 1 ? busy : alone), alone);
  }

  const DeformConv2DShape& shape_;
  const PixelMaps maps_;
  const GpuDevice& device_;
  const bool windowed_;
  GradientTiling tiles_[kTiles];  // without what depends on the block
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_CONV_GRADIENT_TILING_H_
