// Scratch memory aligned for the widest vectors.
#ifndef DCNV2_CC_LIB_CPU_ALIGNED_BUFFER_H_
#define DCNV2_CC_LIB_CPU_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace dcnv2 {

constexpr std::size_t kBufferAlignment = 64;

// `size` elements of a trivial type, uninitialised. Throws std::bad_alloc.
template <typename T>
class AlignedBuffer {
 public:
  explicit AlignedBuffer(int64_t size)
      : data_(static_cast<T*>(
            ::operator new(sizeof(T) * static_cast<std::size_t>(size), std::align_val_t{kBufferAlignment}))) {}
  T* data() { return data_.get(); }
  T& operator[](int64_t i) { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { ::operator delete(p, std::align_val_t{kBufferAlignment}); }
  };
  std::unique_ptr<T, Free> data_;
};

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_ALIGNED_BUFFER_H_
