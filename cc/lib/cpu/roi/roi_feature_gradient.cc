#include <algorithm>
#include <atomic>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "cc/lib/cpu/aligned_buffer.h"
#include "cc/lib/cpu/roi/deform_roi_pool_backward.h"
#include "cc/lib/cpu/roi/roi_samples.h"
#include "cc/lib/cpu/roi/roi_schedule.h"
#include "cc/lib/cpu/simd/kernels.h"
#include "cc/lib/geometry.h"

namespace dcnv2 {
namespace {

// As much of a map's gradient as stays in the second-level cache while RoIs are added to it.
constexpr int64_t kTaskBytes = int64_t{1} << 20;
// The scratch memory of a task, too, has this size at most, unless a row of the map is extremely long.
constexpr int64_t kMostBytes = int64_t{4} << 20;
// So many tasks keep some dozen threads busy.
constexpr int64_t kLeastTasks = 32;
// Rows that are fewer would cut most bins, channels that are fewer would repeat the search for pixels too often.
constexpr int64_t kLeastRows = 4;
constexpr int64_t kLeastChannels = 64;

// Some channels of some rows of a map. Who owns them adds all RoIs to them, in order.
struct Task {
  int64_t map;
  RowBand band;
  int64_t first_channel, channels;
  int64_t rois;  // index into the lists of RoIs
  int64_t cost;  // approximate cycles
};

struct Work {
  std::vector<std::vector<int64_t>> rois;  // that touch a band
  std::vector<Task> tasks;                 // the most expensive first
};

// What one task takes of a map.
struct TaskSize {
  int64_t rows, channels;
};

// For a map that is not empty, and that `rois` of all RoIs are pooled from.
TaskSize SizeOfTasks(const DeformRoiPoolShape& shape, const RoiLevel& level, int64_t rois, int64_t element_bytes) {
  const int64_t wanted = std::max<int64_t>(CeilDiv(kLeastTasks * rois, std::max<int64_t>(shape.rois, 1)), 1);
  const int64_t row_bytes = level.width * shape.channels * element_bytes;
  const int64_t rows =
      std::min(std::max(CeilDiv(level.height, wanted), kLeastRows), std::max<int64_t>(kTaskBytes / row_bytes, 1));
  // Channels are divided only where rows are too few, or too long: pixels in one piece are faster.
  const int64_t chunks =
      std::min(std::max(CeilDiv(wanted, CeilDiv(level.height, rows)), CeilDiv(row_bytes, kMostBytes)),
               CeilDiv(shape.channels, kLeastChannels));
  // Multiples of 16 keep vectors whole.
  return {rows, CeilDiv(CeilDiv(shape.channels, chunks), 16) * 16};
}

void DivideMap(const DeformRoiPoolShape& shape, int64_t map, const std::vector<int64_t>& rois,
               const std::vector<RowBand>& rows_of_roi, int64_t element_bytes, Work* work) {
  const RoiLevel& level = shape.levels[map / shape.batch];
  if (level.height == 0 || level.width == 0 || shape.channels == 0) return;
  const TaskSize size = SizeOfTasks(shape, level, rois.size(), element_bytes);
  const int64_t first_list = work->rois.size();
  const int64_t bands = CeilDiv(level.height, size.rows);
  work->rois.resize(first_list + bands);
  std::vector<int64_t> cost(bands, size.rows * level.width * shape.channels / 4);
  for (int64_t roi : rois) {
    const RowBand& touched = rows_of_roi[roi];
    for (int64_t band = touched.begin / size.rows; band * size.rows < touched.end; ++band) {
      work->rois[first_list + band].push_back(roi);
      const int64_t shared = std::min(touched.end, (band + 1) * size.rows) - std::max(touched.begin, band * size.rows);
      cost[band] += RoiCost(shape) * shared / (touched.end - touched.begin);
    }
  }
  for (int64_t band = 0; band < bands; ++band) {
    const RowBand rows = {band * size.rows, std::min<int64_t>((band + 1) * size.rows, level.height)};
    for (int64_t channel = 0; channel < shape.channels; channel += size.channels) {
      const int64_t channels = std::min(size.channels, shape.channels - channel);
      work->tasks.push_back({map, rows, channel, channels, first_list + band, cost[band] * channels / shape.channels});
    }
  }
}

template <typename S>
Work DivideWork(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs,
                const ParallelFor& parallel_for) {
  std::vector<RowBand> rows_of_roi(shape.rois);
  parallel_for(shape.rois, 20 * shape.config.bins(), [&](int64_t begin, int64_t end) {
    RoiSamples<S> samples(shape, inputs);
    for (int64_t roi = begin; roi < end; ++roi) {
      samples.MoveToRoi(roi);
      rows_of_roi[roi] = samples.Rows();
    }
  });
  std::vector<std::vector<int64_t>> rois_of_map(shape.levels.size() * shape.batch);
  for (int64_t roi = 0; roi < shape.rois; ++roi) rois_of_map[MapOfRoi(shape, inputs, roi)].push_back(roi);
  Work work;
  for (size_t map = 0; map < rois_of_map.size(); ++map) {
    DivideMap(shape, map, rois_of_map[map], rows_of_roi, sizeof(Compute<S>), &work);
  }
  std::stable_sort(work.tasks.begin(), work.tasks.end(), [](const Task& a, const Task& b) { return a.cost > b.cost; });
  return work;
}

// Adds the RoIs to the sums of a task: [rows of the band, width, task.channels], pixels `stride` apart.
template <typename S>
void AddRois(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs, const S* dy, const Task& task,
             const std::vector<int64_t>& rois, const SimdKernels<S>& simd, Compute<S>* sums, int64_t stride) {
  using T = Compute<S>;
  const int64_t bins = shape.config.bins();
  RoiSamples<S> samples(shape, inputs);
  PixelForm<T> pixels;
  for (int64_t roi : rois) {
    samples.MoveToRoi(roi);
    for (int64_t bin = 0; bin < bins; ++bin) {
      if (!samples.MayTouch(bin, task.band)) continue;
      samples.MoveToBin(bin);
      // A NaN position feeds no pixel: its offset's gradient is NaN, which is enough to notice.
      if (samples.IsNan()) continue;
      const int64_t source = roi * bins + bin;
      samples.Expand(task.band, inputs.mask == nullptr ? T(1) : inputs.mask[source], &pixels);
      simd.add_to_rows(dy + source * shape.channels + task.first_channel, pixels.index.data(), pixels.weight.data(),
                       pixels.size, task.channels, sums, stride);
    }
  }
}

template <typename S>
void RunTask(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs, const S* dy, const Task& task,
             const std::vector<int64_t>& rois, S* dlevel) {
  using T = Compute<S>;
  const SimdKernels<S>& simd = BestSimdKernels<S>();
  const RoiLevel& level = shape.levels[task.map / shape.batch];
  const int64_t first_row = task.map % shape.batch * level.height + task.band.begin;
  const int64_t pixels = (task.band.end - task.band.begin) * level.width;
  S* const target = dlevel + first_row * level.width * shape.channels + task.first_channel;
  if constexpr (std::is_same_v<S, T>) {
    if (task.channels == shape.channels) {
      std::fill_n(target, pixels * shape.channels, T(0));
    } else {
      for (int64_t p = 0; p < pixels; ++p) std::fill_n(target + p * shape.channels, task.channels, T(0));
    }
    AddRois(shape, inputs, dy, task, rois, simd, target, shape.channels);
  } else {
    // Sums of many 16-bit numbers are rounded once.
    AlignedBuffer<T> sums(pixels * task.channels);
    std::fill_n(sums.data(), pixels * task.channels, T(0));
    AddRois(shape, inputs, dy, task, rois, simd, sums.data(), task.channels);
    for (int64_t p = 0; p < pixels; ++p) {
      simd.narrow(sums.data() + p * task.channels, task.channels, target + p * shape.channels);
    }
  }
}

}  // namespace

template <typename S>
void RoiFeatureGradient(const DeformRoiPoolShape& shape, const DeformRoiPoolInputs<S>& inputs, const S* dy,
                        const std::vector<S*>& dfeatures, const ParallelFor& parallel_for) {
  const Work work = DivideWork(shape, inputs, parallel_for);
  const int64_t count = work.tasks.size();
  int64_t cost = 0;
  for (const Task& task : work.tasks) cost += task.cost;
  // Whoever is free takes the most expensive task that is left.
  std::atomic<int64_t> next{0};
  parallel_for(count, cost / std::max<int64_t>(count, 1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Task& task = work.tasks[next++];
      RunTask(shape, inputs, dy, task, work.rois[task.rois], dfeatures[task.map / shape.batch]);
    }
  });
}

#define DCNV2_INSTANTIATE(S)                                                                              \
  template void RoiFeatureGradient<S>(const DeformRoiPoolShape&, const DeformRoiPoolInputs<S>&, const S*, \
                                      const std::vector<S*>&, const ParallelFor&)
DCNV2_FOR_EACH_STORAGE_TYPE(DCNV2_INSTANTIATE)
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
