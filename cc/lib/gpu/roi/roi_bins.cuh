// What the bins of a RoI read, made by a warp: roi_samples.h's linear forms of map pixels, on the device.
//
// Half of the lanes take rows, the other half columns. Each lane makes the axis form of another bin, so that the forms
// of 16 bins take the time of one. A bin with more samples than a form has room for is cut into slices along both axes;
// lanes then make the forms of its slices. Bin by bin, or slice by slice, the two forms are multiplied into a list of
// terms, which is short and has every pixel once.
#ifndef DCNV2_CC_LIB_GPU_ROI_ROI_BINS_CUH_
#define DCNV2_CC_LIB_GPU_ROI_ROI_BINS_CUH_

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "cc/lib/gpu/roi/roi_problem.h"
#include "cc/lib/roi_geometry.h"

namespace dcnv2 {

constexpr unsigned kAllLanes = 0xffffffffu;

template <typename T>
struct GpuAxisEntry {
  int32_t index;
  T weight, slope;
};

// A pixel of the map, counted from the image's first, and its weight in the bin's value.
template <typename T>
struct alignas(2 * sizeof(T)) PixelTerm {
  static constexpr bool kHasSlopes = false;
  int32_t pixel;
  T weight;

  static __device__ __forceinline__ PixelTerm Make(int32_t pixel, T mean, const GpuAxisEntry<T>& row,
                                                   const GpuAxisEntry<T>& column) {
    return {pixel, mean * row.weight * column.weight};
  }
};

// Also the weights of its derivatives with respect to the bin's displacement in feature pixels.
template <typename T>
struct alignas(4 * sizeof(T)) SlopedPixelTerm {
  static constexpr bool kHasSlopes = true;
  int32_t pixel;
  T weight, row_slope, column_slope;

  static __device__ __forceinline__ SlopedPixelTerm Make(int32_t pixel, T mean, const GpuAxisEntry<T>& row,
                                                         const GpuAxisEntry<T>& column) {
    return {pixel, mean * row.weight * column.weight, mean * row.slope * column.weight,
            mean * row.weight * column.slope};
  }
};

// The channels of a pixel, given those of an image's first one. In bytes and unsigned this is one instruction.
template <typename S>
__device__ __forceinline__ S* AtPixel(S* first, int32_t pixel, int channels) {
  using Byte = std::conditional_t<std::is_const_v<S>, const unsigned char, unsigned char>;
  const uint32_t stride = static_cast<uint32_t>(channels) * static_cast<uint32_t>(sizeof(S));
  return reinterpret_cast<S*>(reinterpret_cast<Byte*>(first) + uint64_t{static_cast<uint32_t>(pixel)} * stride);
}

// Rows [begin, end) of a map.
struct GpuRowBand {
  int32_t begin, end;
};

// All members are called by the 32 lanes of a warp together, with the same arguments. With kBanded, terms are those of
// some rows only.
template <typename S, typename Term, bool kBanded = false>
class WarpBins {
 public:
  using T = Compute<S>;

  // Bins whose forms are made at once.
  static constexpr int kSlots = 16;

  // Shared memory of one warp.
  static __host__ __device__ constexpr int SharedBytes(int entry_bits) {
    return (sizeof(Term) << 2 * entry_bits) + (32 * kEntryBytes << entry_bits);
  }

  __device__ __forceinline__ WarpBins(const GpuRoiProblem<S>& problem, unsigned char* shared)
      : problem_(problem), lane_(threadIdx.x % 32), slot_of_lane_(lane_ % kSlots), is_column_(lane_ >= kSlots) {
    const int bits = problem.entry_bits;
    terms_ = reinterpret_cast<Term*>(shared);
    weights_ = reinterpret_cast<T*>(terms_ + (1 << 2 * bits));
    slopes_ = weights_ + (32 << bits);
    indices_ = reinterpret_cast<int32_t*>(Term::kHasSlopes ? slopes_ + (32 << bits) : slopes_);
  }

  // `band` matters only to kBanded.
  __device__ __forceinline__ void MoveToRoi(int64_t roi, const GpuRowBand& band = {}) {
    const DeformRoiPoolConfig& config = problem_.config;
    first_bin_ = roi * problem_.bins;
    end_slot_bin_ = 0;
    is_known_ = problem_.IsKnown(roi);
    if (!is_known_) return;
    const RoiLevel size = problem_.levels[problem_.level_of_roi[roi]].size;
    width_ = size.width;
    map_size_ = is_column_ ? size.width : size.height;
    if (kBanded) band_ = is_column_ ? GpuRowBand{0, size.width} : band;
    const T* box = problem_.boxes + 4 * roi + is_column_;
    axis_ = MakeRoiAxis(box[0], box[2], is_column_ ? config.pooled_width : config.pooled_height, map_size_,
                        size.spatial_scale, config.sampling_ratio, config.convention);
    if (size.height == 0 || size.width == 0) axis_.samples = 0;
    samples_ = static_cast<int>(axis_.samples);
    const int row_samples = __shfl_sync(kAllLanes, samples_, 0),
              column_samples = __shfl_sync(kAllLanes, samples_, kSlots);
    is_sliced_ = max(row_samples, column_samples) > slice_samples();
    const int total = static_cast<int>(axis_.total_samples);
    SetMean(__shfl_sync(kAllLanes, total, 0), __shfl_sync(kAllLanes, total, kSlots));
  }

  // To a bin of the RoI, after those before it.
  __device__ __forceinline__ void MoveToBin(int bin) {
    is_nan_ = !is_known_;
    if (!is_known_) return;
    if (is_sliced_ || bin >= end_slot_bin_) {
      end_slot_bin_ = bin + kSlots;
      CollectAll(bin);
    }
    slot_ = bin + kSlots - end_slot_bin_;
    const int rows = __shfl_sync(kAllLanes, found_, slot_), columns = __shfl_sync(kAllLanes, found_, kSlots + slot_);
    is_nan_ = Joined(rows, columns) == kFoundNan;
    if (problem_.config.convention == RoiConvention::kMxnet) SetMean(rows, columns);
  }

  // Whether the bin's results are NaN, whatever the features are: its position is NaN, or its RoI is not known. Such a
  // bin has no terms.
  __device__ __forceinline__ bool IsNan() const { return is_nan_; }

  // Calls visit(terms, count), with all lanes. The value is the sum over all calls; within one, pixels differ.
  template <typename Visit>
  __device__ __forceinline__ void ForEachList(Visit visit) {
    const int row_slices = is_sliced_ ? Slices(__shfl_sync(kAllLanes, samples_, 0)) : 1;
    const int column_slices = is_sliced_ ? Slices(__shfl_sync(kAllLanes, samples_, kSlots)) : 1;
    for (int row = 0; row < row_slices; ++row) {
      for (int column = 0; column < column_slices; ++column) {
        if (max(row_slices, column_slices) > kSlots && column % kSlots == 0) {
          Collect(end_slot_bin_ - kSlots, (is_column_ ? column : row) / kSlots * kSlots + slot_of_lane_);
        }
        const int count = Multiply(slot_ + row % kSlots, kSlots + slot_ + column % kSlots);
        if (count > 0) visit(terms_, count);
      }
    }
  }

  // Rows to the lower half of the lanes, columns to the upper half.
  __device__ __forceinline__ bool is_column() const { return is_column_; }
  __device__ __forceinline__ T roi_size() const { return axis_.size; }

 private:
  static constexpr int kEntryBytes = (Term::kHasSlopes ? 2 : 1) * sizeof(T) + sizeof(int32_t);

  __device__ __forceinline__ int slice_samples() const { return 1 << (problem_.entry_bits - 1); }
  __device__ __forceinline__ int Slices(int samples) const {
    return (samples + slice_samples() - 1) >> (problem_.entry_bits - 1);
  }

  __device__ __forceinline__ void SetMean(int rows, int columns) {
    const int64_t count = int64_t{rows} * columns;
    mean_ = T(1) / static_cast<T>(count > 1 ? count : 1);
  }

  // Visits all samples of the bins from `bin` on, or of `bin` alone if it is sliced: this lane's forms are those of the
  // last visited.
  __device__ __forceinline__ void CollectAll(int bin) {
    // Nobody asks for the forms of bins that do not exist.
    const int bin_of_lane = is_sliced_ ? bin : min(bin + slot_of_lane_, problem_.bins - 1);
    const int slices = is_sliced_ ? Slices(samples_) : 1;
    found_ = 0;
    for (int slice = is_sliced_ ? slot_of_lane_ : 0; slice < slices; slice += kSlots) {
      found_ = Joined(found_, Collect(bin_of_lane, slice));
    }
    if (!is_sliced_) return;
#pragma unroll
    for (int lanes = kSlots / 2; lanes > 0; lanes /= 2) {
      found_ = Joined(found_, __shfl_xor_sync(kAllLanes, found_, lanes));
    }
  }

  // Makes this lane's form of one slice of a bin's samples. Returns how many are not outside the map, or kFoundNan.
  __device__ __forceinline__ int Collect(int bin, int slice) {
    const RoiConvention convention = problem_.config.convention;
    const int pooled_width = static_cast<int>(problem_.config.pooled_width);
    const int bin_on_axis = is_column_ ? bin % pooled_width : bin / pooled_width;
    T shift = 0;
    if (problem_.offset != nullptr) {
      shift = problem_.offset[2 * (first_bin_ + bin) + is_column_] * static_cast<T>(problem_.config.gamma) * axis_.size;
    }
    entries_ = 0;
    int found = 0;
    const int first = slice << (problem_.entry_bits - 1), end = min(first + slice_samples(), samples_);
    const int64_t first_sample = axis_.FirstSample(bin_on_axis, shift);
    for (int i = first; i < end; ++i) {
      const T position = axis_.Position(bin_on_axis, first_sample + i, convention) + shift;
      const AxisSample<T> sample = RoiAxisSample(position, map_size_, convention);
      if (sample.validity == T(0)) continue;
      found = Joined(found, sample.validity == T(1) ? 1 : kFoundNan);
      Add({sample.low, sample.low_weight, sample.low_slope});
      Add({sample.high, sample.high_weight, sample.high_slope});
    }
    return found;
  }

  static constexpr int kFoundNan = -1;
  static __device__ __forceinline__ int Joined(int found, int more) {
    return (found | more) < 0 ? kFoundNan : found + more;
  }

  __device__ __forceinline__ void Add(const GpuAxisEntry<T>& entry) {
    if (kBanded && (entry.index < band_.begin || entry.index >= band_.end)) return;
    // Positions change steadily from sample to sample, so equal indices are among the last two, or three where they
    // decrease: 5 and 6, then 4 and 5.
    for (int j = max(entries_ - 3, 0); j < entries_; ++j) {
      const int at = 32 * j + lane_;
      if (indices_[at] != entry.index) continue;
      weights_[at] += entry.weight;
      if (Term::kHasSlopes) slopes_[at] += entry.slope;
      return;
    }
    const int at = 32 * entries_++ + lane_;
    indices_[at] = entry.index;
    weights_[at] = entry.weight;
    if (Term::kHasSlopes) slopes_[at] = entry.slope;
  }

  __device__ __forceinline__ GpuAxisEntry<T> Entry(int lane, int entry) const {
    const int at = 32 * entry + lane;
    return {indices_[at], weights_[at], Term::kHasSlopes ? slopes_[at] : T(0)};
  }

  // Multiplies two lanes' forms into the list of terms and returns their number.
  __device__ __forceinline__ int Multiply(int row_lane, int column_lane) {
    const int bits = problem_.entry_bits;
    const int rows = __shfl_sync(kAllLanes, entries_, row_lane);
    const int columns = __shfl_sync(kAllLanes, entries_, column_lane);
    __syncwarp();  // forms are complete, and nobody reads the previous list any more
    for (int i = lane_; i < rows << bits; i += 32) {
      const int row = i >> bits, column = i & ((1 << bits) - 1);
      if (column >= columns) continue;
      const GpuAxisEntry<T> row_entry = Entry(row_lane, row), column_entry = Entry(column_lane, column);
      terms_[row * columns + column] =
          Term::Make(row_entry.index * width_ + column_entry.index, mean_, row_entry, column_entry);
    }
    __syncwarp();
    return rows * columns;
  }

  const GpuRoiProblem<S>& problem_;
  const int lane_, slot_of_lane_;
  const bool is_column_;
  Term* terms_;
  T *weights_, *slopes_;
  int32_t* indices_;

  // The RoI, and the axis of it that this lane looks after.
  int64_t first_bin_;  // counted through all RoIs
  RoiAxis<T> axis_;
  GpuRowBand band_;
  int32_t width_, map_size_;
  int samples_;
  bool is_known_, is_sliced_;

  // This lane's form, and what all samples of its bin are.
  int entries_, found_;

  // The bin. Lanes have the forms of the kSlots bins before end_slot_bin_, or slices of the first of them.
  int end_slot_bin_, slot_;
  T mean_;
  bool is_nan_;
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_GPU_ROI_ROI_BINS_CUH_
