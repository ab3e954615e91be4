// Runs the library's tasks on TensorFlow's own CPU pool.
#ifndef DCNV2_CC_KERNELS_CPU_PARALLEL_FOR_H_
#define DCNV2_CC_KERNELS_CPU_PARALLEL_FOR_H_

#include <atomic>
#include <new>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cc/lib/cpu/parallel.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/util/work_sharder.h"

namespace dcnv2 {

// Calls run(parallel_for), and turns a lack of memory in any thread into an error of the op: an exception must not
// travel through TensorFlow.
template <typename Run>
void RunOnCpuPool(tensorflow::OpKernelContext* context, const Run& run) {
  std::atomic<bool> out_of_memory{false};
  const auto* workers = context->device()->tensorflow_cpu_worker_threads();
  const ParallelFor parallel_for = [&](int64_t n, int64_t cost, const RangeBody& body) {
    if (n == 0) return;
    tensorflow::Shard(workers->num_threads, workers->workers, n, cost, [&](int64_t begin, int64_t end) {
      try {
        body(begin, end);
      } catch (const std::bad_alloc&) {
        out_of_memory = true;
      }
    });
  };
  try {
    run(parallel_for);
  } catch (const std::bad_alloc&) {
    out_of_memory = true;
  }
  OP_REQUIRES(context, !out_of_memory,
              absl::ResourceExhaustedError(
                  absl::StrCat("Out of memory for the scratch buffers of ", context->op_kernel().type_string())));
}

}  // namespace dcnv2

#endif  // DCNV2_CC_KERNELS_CPU_PARALLEL_FOR_H_
