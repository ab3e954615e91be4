// How the library asks for threads without knowing whose they are.
#ifndef DCNV2_CC_LIB_CPU_PARALLEL_H_
#define DCNV2_CC_LIB_CPU_PARALLEL_H_

#include <cstdint>
#include <functional>

namespace dcnv2 {

// parallel_for(n, cost, body) calls body(begin, end) on disjoint ranges that cover [0, n), in any order, on any
// number of threads, and returns when all are done. `cost` is the approximate number of CPU cycles per unit.
// No result of this library depends on how the range is split.
using RangeBody = std::function<void(int64_t begin, int64_t end)>;
using ParallelFor = std::function<void(int64_t n, int64_t cost, const RangeBody& body)>;

}  // namespace dcnv2

#endif  // DCNV2_CC_LIB_CPU_PARALLEL_H_
