// Checks on shapes of which not everything may be known, used by the shape functions (while tracing) and by the kernels
// (when everything is known), so that both refuse the same things with the same words.
#ifndef DCNV2_CC_OPS_PARTIAL_SHAPES_H_
#define DCNV2_CC_OPS_PARTIAL_SHAPES_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/partial_tensor_shape.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace dcnv2 {

constexpr int64_t kUnknown = -1;

template <typename... Parts>
absl::Status InvalidArgument(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

inline int64_t DimensionOrUnknown(const tensorflow::PartialTensorShape& shape, int axis) {
  return shape.unknown_rank() ? kUnknown : shape.dim_size(axis);
}

inline bool CertainlyDiffers(int64_t a, int64_t b) { return a != kUnknown && b != kUnknown && a != b; }

inline int64_t KnownOf(int64_t a, int64_t b) { return a == kUnknown ? b : a; }

inline absl::Status CheckRank(const char* name, const tensorflow::PartialTensorShape& shape, int rank,
                              const char* layout) {
  if (shape.unknown_rank() || shape.dims() == rank) return absl::OkStatus();
  return InvalidArgument(name, " must have rank ", rank, ", ", layout, ". Received: ", name,
                         ".shape=", shape.DebugString());
}

// `expected` in words explains where the number comes from.
template <typename... Expected>
absl::Status CheckDimension(const char* name, const tensorflow::PartialTensorShape& shape, int axis, int64_t value,
                            const Expected&... expected) {
  if (!CertainlyDiffers(DimensionOrUnknown(shape, axis), value)) return absl::OkStatus();
  return InvalidArgument(name, " has size ", shape.dim_size(axis), " on axis ", axis, ", expected ", value, ": ",
                         expected..., ". Received: ", name, ".shape=", shape.DebugString());
}

// An optional input that is not used is a vector without elements.
inline absl::Status CheckUnused(const char* name, const char* attribute, const tensorflow::PartialTensorShape& shape) {
  if (shape.unknown_rank()) return absl::OkStatus();
  if (shape.dims() == 1 && (shape.dim_size(0) == 0 || shape.dim_size(0) == kUnknown)) return absl::OkStatus();
  return InvalidArgument(name, " must have shape [0] because ", attribute, " is false. Received: ", name,
                         ".shape=", shape.DebugString());
}

inline tensorflow::PartialTensorShape ToPartialShape(const tensorflow::TensorShape& shape) {
  return tensorflow::PartialTensorShape(shape.dim_sizes());
}

inline tensorflow::PartialTensorShape ToPartialShape(tensorflow::shape_inference::InferenceContext* context,
                                                     tensorflow::shape_inference::ShapeHandle handle) {
  tensorflow::TensorShapeProto proto;
  context->ShapeHandleToProto(handle, &proto);
  return tensorflow::PartialTensorShape(proto);
}

inline void SetOutput(tensorflow::shape_inference::InferenceContext* context, int index,
                      const std::vector<int64_t>& dimensions) {
  std::vector<tensorflow::shape_inference::DimensionHandle> handles;
  for (int64_t dimension : dimensions) {
    handles.push_back(dimension == kUnknown ? context->UnknownDim() : context->MakeDim(dimension));
  }
  context->set_output(index, context->MakeShape(handles));
}

}  // namespace dcnv2

#endif  // DCNV2_CC_OPS_PARTIAL_SHAPES_H_
