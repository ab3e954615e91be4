// The library's types for TensorFlow's.
#ifndef DCNV2_CC_KERNELS_STORAGE_TYPES_H_
#define DCNV2_CC_KERNELS_STORAGE_TYPES_H_

#include <type_traits>

#include "cc/lib/storage.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/framework/types.h"

namespace dcnv2 {

template <typename T>
struct StorageType {
  using type = T;
};
template <>
struct StorageType<Eigen::half> {
  using type = Half;
};
template <>
struct StorageType<tensorflow::bfloat16> {
  using type = BFloat16;
};

// What the library calls the elements of a tensor of type T, in the same bits.
template <typename T>
using StorageOf = typename StorageType<T>::type;

// Type of coordinates and modulations beside a tensor of type T.
template <typename T>
using CoordinateOf = Compute<StorageOf<T>>;

// Statements that register kernels for every type of tensor.
#define DCNV2_FOR_EACH_TENSOR_TYPE(REGISTER) \
  REGISTER(Eigen::half);                     \
  REGISTER(tensorflow::bfloat16);            \
  REGISTER(float);                           \
  REGISTER(double);

// The elements of a tensor of type T.
template <typename T>
const StorageOf<T>* StoredData(const tensorflow::Tensor& tensor) {
  static_assert(sizeof(StorageOf<T>) == sizeof(T) && alignof(StorageOf<T>) == alignof(T));
  static_assert(std::is_trivially_copyable_v<StorageOf<T>> && std::is_standard_layout_v<StorageOf<T>>);
  return reinterpret_cast<const StorageOf<T>*>(tensor.flat<T>().data());
}
template <typename T>
StorageOf<T>* StoredData(tensorflow::Tensor* tensor) {
  return const_cast<StorageOf<T>*>(StoredData<T>(*tensor));
}

}  // namespace dcnv2

#endif  // DCNV2_CC_KERNELS_STORAGE_TYPES_H_
