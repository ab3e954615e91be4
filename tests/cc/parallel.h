// Ways to run the library's tasks. No result may depend on which of them it was.
#ifndef DCNV2_TESTS_CC_PARALLEL_H_
#define DCNV2_TESTS_CC_PARALLEL_H_

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "cc/lib/cpu/parallel.h"

namespace dcnv2_test {

// Everything in one piece.
inline void Serial(int64_t n, int64_t, const dcnv2::RangeBody& body) { body(0, n); }

// Unit by unit from the end.
inline void ReversedUnits(int64_t n, int64_t, const dcnv2::RangeBody& body) {
  for (int64_t i = n - 1; i >= 0; --i) body(i, i + 1);
}

// On `count` threads, which take ranges of uneven length as they become free.
inline dcnv2::ParallelFor Threads(int count) {
  return [count](int64_t n, int64_t, const dcnv2::RangeBody& body) {
    std::atomic<int64_t> next{0};
    const int64_t most = std::max<int64_t>(n / (2 * count), 1);
    const auto work = [&](int thread) {
      const int64_t length = std::max<int64_t>(most - thread, 1);
      for (int64_t begin; (begin = next.fetch_add(length)) < n;) body(begin, std::min(begin + length, n));
    };
    std::vector<std::thread> threads;
    for (int thread = 0; thread < count; ++thread) threads.emplace_back(work, thread);
    for (std::thread& thread : threads) thread.join();
  };
}

// Equal to the bit, NaN included.
template <typename T>
bool SameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace dcnv2_test

#endif  // DCNV2_TESTS_CC_PARALLEL_H_
