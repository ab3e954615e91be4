#include <cuda_runtime.h>

#include "cc/lib/gpu/common/launch.h"
#include "cc/lib/gpu/conv/deform_conv2d_ordered_gradient.h"
#include "cc/lib/gpu/conv/pixel_strips.cuh"
#include "cc/lib/gpu/conv/sampling.cuh"

namespace dcnv2 {
namespace {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kLanes = 32;
constexpr int kRun = 128;  // pixels of a map that a warp sums at once

// The work is divided among warps by what they own in dx: a run of pixels of one image, and a channel for each lane.
// Every warp looks through all samples of its image; to see which of them matter takes a few instructions for 32.
template <typename T>
struct Task {
  DeformConv2DShape shape;
  const T* offset;
  const T* mask;
  OrderedColumns<T> band;
  int64_t first_pixel, end_pixel;  // of the band
  PixelStrips pixels;              // of the batch
  T* dx;
  int64_t first_image, parts;
  int runs, chunks;  // of an image; of a deformable group
};

struct Part {
  int64_t image;
  int32_t first, pixels;  // of the image
  int deformable_group;
  int64_t channel;  // the lane's
  bool has_channel;
};

template <typename T>
__device__ __forceinline__ Part Locate(const Task<T>& task, int64_t number) {
  const auto group_channels = static_cast<int>(task.shape.deformable_group_channels());
  const int64_t chunks = task.shape.deformable_groups * task.chunks;
  const int chunk = static_cast<int>(number % chunks);
  const int run = static_cast<int>(number / chunks % task.runs);
  const int deformable_group = chunk / task.chunks;
  const int channel = chunk % task.chunks * kLanes + static_cast<int>(threadIdx.x);
  const bool has_channel = channel < group_channels;
  const int left = static_cast<int>(task.shape.in_height * task.shape.in_width) - run * kRun;
  return {task.first_image + number / chunks / task.runs,
          run * kRun,
          left < kRun ? left : kRun,
          deformable_group,
          static_cast<int64_t>(deformable_group) * group_channels + (has_channel ? channel : 0),
          has_channel};
}

// Whether a sample may touch the part: its corners are among its first one, that one's right neighbour and the two
// below.
__device__ __forceinline__ bool MayTouch(const Part& part, int32_t first_corner, int32_t width) {
  const auto pixels = static_cast<uint32_t>(part.pixels);
  const uint32_t from_before = static_cast<uint32_t>(first_corner) + 1 - static_cast<uint32_t>(part.first);
  return !IsAbsent(first_corner) && (from_before <= pixels || from_before + static_cast<uint32_t>(width) <= pixels);
}

template <typename T>
__device__ __forceinline__ PlannedGradient<T> Plan(const Task<T>& task, int64_t pixel, int deformable_group, int tap) {
  const OutputPixel located = task.pixels.Locate(task.shape, pixel);
  return PlanGradient(task.shape, located, tap,
                      ReadSampleInput(task.shape, located, deformable_group, tap, task.offset, task.mask));
}

// Adds what the samples of the lanes in `hits` contribute to the part, in their order. A lane reads and writes sums of
// its own only.
template <typename T>
__device__ __forceinline__ void AddHits(const Part& part, unsigned hits, const int32_t (&corner)[4],
                                        const T (&weight)[4], const T* columns, int64_t in_channels, T* sums) {
  // Several at a time, so that reading one does not wait for adding another.
  constexpr int kAtOnce = 4;
  while (hits != 0) {
    int source[kAtOnce];
    T value[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      source[j] = __ffs(static_cast<int>(hits)) - 1;
      hits &= hits - 1;
      value[j] = source[j] < 0 ? T(0) : columns[source[j] * in_channels];
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      if (source[j] < 0) break;
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int32_t pixel = __shfl_sync(kAllLanes, corner[c], source[j]) - part.first;
        const T share = __shfl_sync(kAllLanes, weight[c], source[j]) * value[j];
        if (pixel >= 0 && pixel < part.pixels) sums[pixel * kLanes] += share;
      }
    }
  }
}

template <typename T>
__device__ __forceinline__ void SumPart(const Task<T>& task, const Part& part, T* sums) {
  const DeformConv2DShape& shape = task.shape;
  const int lane = static_cast<int>(threadIdx.x);
  const int taps = static_cast<int>(shape.taps());
  T* const dx =
      task.dx + (part.image * shape.in_height * shape.in_width + part.first) * shape.in_channels + part.channel;
  // Lanes without a channel of their own keep off the first one's, which another lane writes.
  for (int i = 0; i < part.pixels; ++i) sums[i * kLanes] = part.has_channel ? dx[i * shape.in_channels] : T(0);

  const int64_t first_pixel = max(task.first_pixel, part.image * shape.out_pixels());
  const int64_t end_pixel = min(task.end_pixel, (part.image + 1) * shape.out_pixels());
  const int64_t pixels_before = first_pixel - task.first_pixel;
  const T* columns = task.band.columns + pixels_before * taps * shape.in_channels + part.channel;
  const int32_t* corners = task.band.first_corner + pixels_before * shape.samples_per_pixel();
  // Samples of the deformable group. A band has less than 2^31 of them.
  const int samples = static_cast<int>(end_pixel - first_pixel) * taps;
  for (int first = 0; first < samples; first += kLanes) {
    const int sample = first + lane;
    const int pixel = sample / taps;
    const int tap = sample - pixel * taps;
    bool touches = false;
    if (sample < samples) {
      const int32_t corner = corners[pixel * shape.samples_per_pixel() + part.deformable_group * taps + tap];
      touches = MayTouch(part, corner, static_cast<int32_t>(shape.in_width));
    }
    const unsigned hits = __ballot_sync(kAllLanes, touches);
    if (hits == 0) continue;
    PlannedGradient<T> plan = {};
    if (touches) plan = Plan(task, first_pixel + pixel, part.deformable_group, tap);
    AddHits(part, hits, plan.corner, plan.weight, columns + first * shape.in_channels, shape.in_channels, sums);
  }

  if (!part.has_channel) return;
  for (int i = 0; i < part.pixels; ++i) dx[i * shape.in_channels] = sums[i * kLanes];
}

template <typename T>
__global__ void __launch_bounds__(kLanes) SumPartsKernel(const __grid_constant__ Task<T> task) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  T* const sums = reinterpret_cast<T*>(shared_memory) + threadIdx.x;
  for (int64_t part = blockIdx.x; part < task.parts; part += gridDim.x) SumPart(task, Locate(task, part), sums);
}

}  // namespace

template <typename T>
cudaError_t AddColumnsInOrder(const DeformConv2DShape& shape, const T* offset, const T* mask,
                              const OrderedColumns<T>& band, int64_t first_pixel, int64_t pixels, T* dx,
                              cudaStream_t stream) {
  const int64_t end_pixel = first_pixel + pixels;
  const int64_t first_image = first_pixel / shape.out_pixels();
  const int64_t images = (end_pixel - 1) / shape.out_pixels() - first_image + 1;
  const int64_t runs = CeilDiv(shape.in_height * shape.in_width, kRun);
  const int64_t chunks = CeilDiv(shape.deformable_group_channels(), kLanes);
  const int64_t parts = images * runs * shape.deformable_groups * chunks;
  const Task<T> task = {shape,
                        offset,
                        mask,
                        band,
                        first_pixel,
                        end_pixel,
                        PixelStrips::ByRow(shape),
                        dx,
                        first_image,
                        parts,
                        static_cast<int>(runs),
                        static_cast<int>(chunks)};
  constexpr int64_t kMaxBlocks = int64_t{1} << 30;
  return LaunchKernel(SumPartsKernel<T>, std::min(parts, kMaxBlocks), kLanes,
                      static_cast<int>(kRun * kLanes * sizeof(T)), stream, task);
}

#define DCNV2_INSTANTIATE(T)                                                                                        \
  template cudaError_t AddColumnsInOrder<T>(const DeformConv2DShape&, const T*, const T*, const OrderedColumns<T>&, \
                                            int64_t, int64_t, T*, cudaStream_t)
DCNV2_INSTANTIATE(float);
DCNV2_INSTANTIATE(double);
#undef DCNV2_INSTANTIATE

}  // namespace dcnv2
