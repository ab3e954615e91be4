// Calls of the ops with random arguments, and how their results are compared.
#ifndef DCNV2_TESTS_GPU_TF_HARNESS_CALLS_H_
#define DCNV2_TESTS_GPU_TF_HARNESS_CALLS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "tensorflow/core/framework/node_def_builder.h"
#include "tensorflow/core/framework/tensor.h"
#include "tests/gpu/tf_harness/op_runner.h"

namespace tf_harness {

// One of the types that the ops are registered for.
struct Type {
  const char* name;
  tensorflow::DataType stored, computed;  // of maps and weights, and of coordinates and modulations
  double tolerance;                       // what the order of sums and 16-bit samples may cost, of the largest result
};

inline constexpr Type kFloat16 = {"float16", tensorflow::DT_HALF, tensorflow::DT_FLOAT, 4e-3};
inline constexpr Type kBfloat16 = {"bfloat16", tensorflow::DT_BFLOAT16, tensorflow::DT_FLOAT, 3e-2};
inline constexpr Type kFloat32 = {"float32", tensorflow::DT_FLOAT, tensorflow::DT_FLOAT, 1e-5};
inline constexpr Type kFloat64 = {"float64", tensorflow::DT_DOUBLE, tensorflow::DT_DOUBLE, 1e-12};
inline constexpr Type kTypes[] = {kFloat16, kBfloat16, kFloat32, kFloat64};

// Calls visit(flat array of the tensor's own type) for a tensor of floating-point numbers.
template <typename Visit>
void VisitFlat(tensorflow::Tensor* tensor, const Visit& visit) {
  switch (tensor->dtype()) {
    case tensorflow::DT_HALF:
      return visit(tensor->flat<Eigen::half>());
    case tensorflow::DT_BFLOAT16:
      return visit(tensor->flat<tensorflow::bfloat16>());
    case tensorflow::DT_FLOAT:
      return visit(tensor->flat<float>());
    default:
      return visit(tensor->flat<double>());
  }
}

inline std::vector<double> Values(tensorflow::Tensor tensor) {
  std::vector<double> values;
  VisitFlat(&tensor, [&values](auto flat) {
    for (int64_t i = 0; i < flat.size(); ++i) values.push_back(static_cast<double>(flat(i)));
  });
  return values;
}

// Makes tensors, never the same numbers twice.
class Random {
 public:
  tensorflow::Tensor Normal(tensorflow::DataType type, const tensorflow::TensorShape& shape) {
    tensorflow::Tensor tensor(type, shape);
    VisitFlat(&tensor, [this](auto flat) {
      using T = typename decltype(flat)::Scalar;
      for (int64_t i = 0; i < flat.size(); ++i) flat(i) = static_cast<T>(normal_(generator_));
    });
    return tensor;
  }

  // (y1, x1, y2, x2) in an image of about 80 pixels.
  tensorflow::Tensor Boxes(tensorflow::DataType type, int64_t rois) {
    tensorflow::Tensor boxes(type, tensorflow::TensorShape({rois, 4}));
    VisitFlat(&boxes, [this, rois](auto flat) {
      using T = typename decltype(flat)::Scalar;
      for (int64_t roi = 0; roi < rois; ++roi) {
        const double top = 70 * uniform_(generator_) - 10, left = 70 * uniform_(generator_) - 10;
        const double edges[] = {top, left, top + 40 * uniform_(generator_), left + 40 * uniform_(generator_)};
        for (int i = 0; i < 4; ++i) flat(4 * roi + i) = static_cast<T>(edges[i]);
      }
    });
    return boxes;
  }

 private:
  std::mt19937 generator_{1};
  std::normal_distribution<double> normal_;
  std::uniform_real_distribution<double> uniform_;
};

// 0, 1, ... count - 1, 0, 1, ...
inline tensorflow::Tensor Cycle(int64_t size, int64_t count) {
  tensorflow::Tensor tensor(tensorflow::DT_INT32, tensorflow::TensorShape({size}));
  for (int64_t i = 0; i < size; ++i) tensor.flat<int32_t>()(i) = static_cast<int32_t>(i % count);
  return tensor;
}

inline tensorflow::Tensor Doubles(const std::vector<double>& values) {
  tensorflow::Tensor tensor(tensorflow::DT_DOUBLE, tensorflow::TensorShape({static_cast<int64_t>(values.size())}));
  for (size_t i = 0; i < values.size(); ++i) tensor.flat<double>()(i) = values[i];
  return tensor;
}

inline tensorflow::Tensor Nothing(tensorflow::DataType type) {
  return tensorflow::Tensor(type, tensorflow::TensorShape({0}));
}

struct ConvSpec {
  Type type = kFloat32;
  bool use_mask = true, gradient = false;
  tensorflow::TensorShape x{1, 10, 9, 32}, kernel{3, 3, 32, 64};
  std::vector<int64_t> strides{1, 1}, dilations{1, 1};
  const char* padding = "SAME";
  std::vector<int64_t> explicit_paddings{};
  int64_t deformable_groups = 1;
};

// One that divides nothing evenly.
inline ConvSpec OddConv() {
  ConvSpec spec;
  spec.x = {2, 9, 8, 12};
  spec.kernel = {3, 3, 6, 10};
  spec.strides = {2, 1};
  spec.dilations = {1, 2};
  spec.deformable_groups = 3;
  return spec;
}

inline absl::StatusOr<Call> MakeCall(const ConvSpec& spec) {
  const auto out_size = [&spec](int axis) -> int64_t {
    const int64_t in = spec.x.dim_size(axis + 1), stride = spec.strides[axis];
    if (std::string(spec.padding) == "SAME") return (in + stride - 1) / stride;
    const int64_t window = (spec.kernel.dim_size(axis) - 1) * spec.dilations[axis] + 1;
    const bool padded = !spec.explicit_paddings.empty();
    const int64_t padding = padded ? spec.explicit_paddings[2 * axis] + spec.explicit_paddings[2 * axis + 1] : 0;
    return (in + padding - window) / stride + 1;
  };
  const int64_t samples = spec.deformable_groups * spec.kernel.dim_size(0) * spec.kernel.dim_size(1);
  const int64_t batch = spec.x.dim_size(0), height = out_size(0), width = out_size(1);
  Random random;
  Call call;
  call.inputs = {
      random.Normal(spec.type.stored, spec.x), random.Normal(spec.type.stored, spec.kernel),
      random.Normal(spec.type.computed, {batch, height, width, 2 * samples}),
      spec.use_mask ? random.Normal(spec.type.computed, {batch, height, width, samples}) : Nothing(spec.type.computed)};
  if (spec.gradient) {
    call.inputs.push_back(random.Normal(spec.type.stored, {batch, height, width, spec.kernel.dim_size(3)}));
  }
  tensorflow::NodeDefBuilder node("conv", spec.gradient ? "Dcnv2>DeformConv2DGrad" : "Dcnv2>DeformConv2D");
  for (const tensorflow::Tensor& input : call.inputs) node.Input("input", 0, input.dtype());
  node.Attr("use_mask", spec.use_mask)
      .Attr("strides", spec.strides)
      .Attr("padding", spec.padding)
      .Attr("explicit_paddings", spec.explicit_paddings)
      .Attr("dilations", spec.dilations)
      .Attr("deformable_groups", spec.deformable_groups);
  TF_RETURN_IF_ERROR(node.Finalize(&call.node));
  return call;
}

struct RoiSpec {
  Type type = kFloat32;
  bool use_offset = true, use_mask = true, gradient = false;
  const char* convention = "aligned";
  int64_t batch = 2, channels = 19, rois = 5, sampling_ratio = 2;
  std::vector<std::pair<int64_t, int64_t>> levels{{9, 11}, {5, 6}};
  std::vector<int64_t> output_size{3, 2};
};

// Where an input is, after the maps.
enum RoiInput { kBoxes, kBoxIndices, kLevels, kOffset, kMask, kSpatialScales, kGamma, kRoiGradient };

inline absl::StatusOr<Call> MakeCall(const RoiSpec& spec) {
  const tensorflow::DataType stored = spec.type.stored, computed = spec.type.computed;
  const int64_t height = spec.output_size[0], width = spec.output_size[1];
  Random random;
  Call call;
  std::vector<tensorflow::NodeDefBuilder::NodeOut> maps;
  std::vector<double> scales;
  for (const auto& [rows, columns] : spec.levels) {
    call.inputs.push_back(random.Normal(stored, {spec.batch, rows, columns, spec.channels}));
    maps.emplace_back("map", 0, stored);
    scales.push_back(1.0 / static_cast<double>(8 << (scales.size() % 4)));
  }
  tensorflow::Tensor gamma(tensorflow::DT_DOUBLE, {});
  gamma.scalar<double>()() = 0.1;
  const size_t first = call.inputs.size();
  call.inputs.insert(call.inputs.end(),
                     {random.Boxes(computed, spec.rois), Cycle(spec.rois, spec.batch),
                      Cycle(spec.rois, static_cast<int64_t>(spec.levels.size())),
                      spec.use_offset ? random.Normal(computed, {spec.rois, height, width, 2}) : Nothing(computed),
                      spec.use_mask ? random.Normal(computed, {spec.rois, height, width}) : Nothing(computed),
                      Doubles(scales), gamma});
  if (spec.gradient) call.inputs.push_back(random.Normal(stored, {spec.rois, height, width, spec.channels}));
  tensorflow::NodeDefBuilder node("pool", spec.gradient ? "Dcnv2>DeformRoiPoolGrad" : "Dcnv2>DeformRoiPool");
  node.Input(maps);
  for (size_t i = first; i < call.inputs.size(); ++i) node.Input("input", 0, call.inputs[i].dtype());
  node.Attr("use_offset", spec.use_offset)
      .Attr("use_mask", spec.use_mask)
      .Attr("output_size", spec.output_size)
      .Attr("sampling_ratio", spec.sampling_ratio)
      .Attr("convention", spec.convention);
  TF_RETURN_IF_ERROR(node.Finalize(&call.node));
  return call;
}

// The largest difference, of the largest expected number; infinite where only one of two is finite.
inline double Error(const std::vector<double>& received, const std::vector<double>& expected) {
  if (received.size() != expected.size()) return INFINITY;
  double largest = 0, difference = 0;
  for (size_t i = 0; i < received.size(); ++i) {
    if (std::isfinite(received[i]) != std::isfinite(expected[i])) return INFINITY;
    if (!std::isfinite(received[i])) continue;
    largest = std::max(largest, std::abs(expected[i]));
    difference = std::max(difference, std::abs(received[i] - expected[i]));
  }
  return difference == 0 ? 0 : difference / largest;
}

inline double Error(const tensorflow::Tensor& received, const tensorflow::Tensor& expected) {
  if (received.shape() != expected.shape() || received.dtype() != expected.dtype()) return INFINITY;
  return Error(Values(received), Values(expected));
}

inline bool SameBits(const Tensors& a, const Tensors& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].tensor_data() != b[i].tensor_data()) return false;
  }
  return a.size() == b.size();
}

}  // namespace tf_harness

#endif  // DCNV2_TESTS_GPU_TF_HARNESS_CALLS_H_
