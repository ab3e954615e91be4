#include "block.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "emulator.h"
#include "fiber.h"
#include "races.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace {
// Beyond what a launch asks for, this much is watched.
constexpr size_t kWatchedBytes = 4096;
}  // namespace

alignas(4096) unsigned char dcnv2_emulated_shared_memory_bytes[emulation::kSharedMemoryBytes + kWatchedBytes] __asm__(
    "dcnv2_emulated_shared_memory");

namespace emulation {
namespace {

unsigned char* const shared = dcnv2_emulated_shared_memory_bytes;
constexpr int kNaNByte = 0xff;  // NaN as a number of any type, and no index of anything

enum class State : unsigned char { kRunning, kAtBarrier, kAtNamedBarrier, kAtMemoryBarrier, kInCollective, kDone };

struct Copy {
  unsigned char* target;
  unsigned char bytes[16];
};

struct Warp {
  Collective collective;
  int arrived = 0;
  // Two sets in turn: a lane may hand over its next post before the slowest has read the last ones, but none after
  // that.
  int set = 0;
  alignas(16) unsigned char posts[2][kWarpSize][kPostBytes];
};

// A barrier that is not __syncthreads. Places in turn, as below.
struct NamedBarrier {
  size_t arrived = 0;
  int passed = 0;
  char places[2];
};
constexpr int kNamedBarriers = 16;

struct Thread {
  Fiber fiber;
  uint3 index;
  int number;
  unsigned block;  // in the cluster
  int barriers;    // passed so far
  const NamedBarrier* waits_at;
  std::vector<Copy> uncommitted;
  std::deque<std::vector<Copy>> pending;
  std::vector<std::function<void()>> deferred;
  std::deque<std::vector<std::function<void()>>> deferred_groups;

  int lane() const { return number % kWarpSize; }
};

// The block or cluster at work; threads and their stacks are kept for the next one. States lie together, since all of
// them are read whenever threads have come to wait.
std::vector<std::unique_ptr<Thread>> threads;
std::vector<State> states;
std::vector<Warp> warps;
std::vector<NamedBarrier> named_barriers;  // of each block its own
// One block's shared memory is where kernels find it; what the others have is here meanwhile.
std::vector<std::vector<unsigned char>> shared_of_block;
unsigned resident_block = 0;
Thread* current = nullptr;
const std::function<void()>* work = nullptr;
std::string failure;
// What the threads of a block are ordered by. There are two barriers in turn: whoever passes the next one must not seem
// to have done so before the slowest has left this one.
char block_begins, block_ends, block_barriers[2];

void Wait(State state) {
  states[current->number] = state;
  current->fiber.Suspend();
}

void RunThread() {
  Acquire(&block_begins);
  (*work)();
  Release(&block_ends);
  Wait(State::kDone);
}

std::string Place(const Thread& thread) {
  char text[160];
  std::snprintf(text, sizeof(text), "block (%u, %u, %u), thread (%u, %u, %u): ", blockIdx.x, blockIdx.y, blockIdx.z,
                thread.index.x, thread.index.y, thread.index.z);
  return text;
}

const char* Describe(const Thread& thread) {
  switch (states[thread.number]) {
    case State::kAtBarrier:
      return "waits at __syncthreads";
    case State::kAtNamedBarrier:
      return "waits at a barrier of some threads";
    case State::kAtMemoryBarrier:
      return "waits at a barrier in memory";
    case State::kDone:
      return "has ended";
    default:
      break;
  }
  switch (warps[thread.number / kWarpSize].collective) {
    case Collective::kSynchronize:
      return "waits at __syncwarp";
    case Collective::kShuffle:
      return "waits at a shuffle";
    case Collective::kVote:
      return "waits at a vote";
    case Collective::kLoadMatrices:
      return "waits at a matrix load";
    case Collective::kMultiply:
      return "waits at a matrix product";
  }
  return "waits";
}

// No thread can go on, and not all have ended.
std::string DescribeDeadlock(size_t count) {
  const Thread* waiting = nullptr;
  for (size_t i = 0; i < count; ++i) {
    const bool in_collective = states[i] == State::kInCollective;
    if (states[i] != State::kDone && (waiting == nullptr || in_collective)) waiting = threads[i].get();
    if (in_collective) break;
  }
  const State state = states[waiting->number];
  const bool warp_only = state == State::kInCollective;
  const size_t first = warp_only ? waiting->number / kWarpSize * kWarpSize : 0;
  const size_t last = warp_only ? first + kWarpSize : count;
  for (size_t i = first; i < last; ++i) {
    if (states[i] == state) continue;
    return Place(*waiting) + Describe(*waiting) + " for ever, for " + Place(*threads[i]) + Describe(*threads[i]);
  }
  return Place(*waiting) + Describe(*waiting) + " for ever";
}

// Has the shared memory of this block where kernels find it.
void MakeResident(unsigned block) {
  if (block == resident_block) return;
  const Unwatched unwatched;
  std::vector<unsigned char>& own = shared_of_block[resident_block];
  std::memcpy(own.data(), shared, own.size());
  std::memcpy(shared, shared_of_block[block].data(), own.size());
  resident_block = block;
}

void Prepare(uint3 index, unsigned cluster, dim3 size, dim3 grid, size_t shared_bytes) {
  blockIdx = index;
  blockDim = size;
  gridDim = grid;
  const size_t count_of_block = size_t{size.x} * size.y * size.z, count = cluster * count_of_block;
  while (threads.size() < count) threads.push_back(std::make_unique<Thread>());
  warps.assign(count / kWarpSize, Warp());
  states.assign(count, State::kRunning);
  for (size_t i = 0; i < count; ++i) {
    Thread& thread = *threads[i];
    const auto number = static_cast<unsigned>(i % count_of_block);
    thread.block = static_cast<unsigned>(i / count_of_block);
    thread.index = {number % size.x, number / size.x % size.y, number / size.x / size.y};
    thread.number = static_cast<int>(i);
    thread.barriers = 0;
    thread.uncommitted.clear();
    thread.pending.clear();
    thread.deferred.clear();
    thread.deferred_groups.clear();
    thread.fiber.Start(&RunThread);
  }
  std::memset(shared, kNaNByte, shared_bytes + kWatchedBytes);
  shared_of_block.assign(cluster, std::vector<unsigned char>(cluster > 1 ? shared_bytes : 0, kNaNByte));
  resident_block = 0;
  named_barriers.assign(cluster * kNamedBarriers, NamedBarrier());
  failure.clear();
}

// The numbers of the threads of a warp that can go on.
void AddReady(size_t warp, std::vector<int>& ready) {
  const size_t first = warp * kWarpSize;
  for (size_t i = first; i < first + kWarpSize; ++i) {
    if (states[i] == State::kRunning) ready.push_back(static_cast<int>(i));
  }
}

// Threads that can go on, in random order: of all warps, or of a random one. None only if no thread can.
void ChooseReady(bool one_warp, std::vector<int>& ready, Order& order) {
  ready.clear();
  const size_t start = one_warp ? order() % warps.size() : 0;
  for (size_t i = 0; i < warps.size() && (ready.empty() || !one_warp); ++i) AddReady((start + i) % warps.size(), ready);
  std::shuffle(ready.begin(), ready.end(), order);
}

// In some blocks one warp at a time runs until its threads wait; in the others all go in step.
void RunThreads(size_t count, Order& order) {
  const auto all_are = [count](State state) {
    return static_cast<size_t>(std::count(states.begin(), states.end(), state)) == count;
  };
  const bool warp_by_warp = order() % 2 == 0;
  const unsigned first_block = blockIdx.x;
  std::vector<int> ready;
  while (failure.empty()) {
    ChooseReady(warp_by_warp, ready, order);
    for (const int number : ready) {
      current = threads[number].get();
      threadIdx = current->index;
      MakeResident(current->block);
      blockIdx.x = first_block + current->block;
      current->fiber.Resume();
      current = nullptr;
      if (!failure.empty()) return;
    }
    if (!ready.empty()) continue;
    if (all_are(State::kAtBarrier)) {
      states.assign(count, State::kRunning);
    } else if (all_are(State::kDone)) {
      return;
    } else {
      failure = DescribeDeadlock(count);
    }
  }
}

}  // namespace

std::string RunBlocks(const std::function<void()>& thread, uint3 index, unsigned cluster, dim3 size, dim3 grid,
                      size_t shared_bytes, Order& order) {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(shared, kSharedMemoryBytes + kWatchedBytes);
#endif
  Prepare(index, cluster, size, grid, shared_bytes);
#if defined(__SANITIZE_ADDRESS__)
  ASAN_POISON_MEMORY_REGION(shared + shared_bytes, kSharedMemoryBytes + kWatchedBytes - shared_bytes);
#endif
  work = &thread;
  Release(&block_begins);
  RunThreads(size_t{cluster} * size.x * size.y * size.z, order);
  Acquire(&block_ends);
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(shared, kSharedMemoryBytes + kWatchedBytes);
#endif
  for (size_t i = shared_bytes; failure.empty() && i < shared_bytes + kWatchedBytes; ++i) {
    if (shared[i] == kNaNByte) continue;
    failure = Place(*threads[0]) + "some thread wrote byte " + std::to_string(i) + " of " +
              std::to_string(shared_bytes) + " bytes of shared memory";
  }
  return failure;
}

void Fail(const char* format, ...) {
  char text[400];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  if (current == nullptr) {
    std::fprintf(stderr, "emulated device, outside of any kernel: %s\n", text);
    std::abort();
  }
  failure = Place(*current) + text;
  // Nobody resumes the thread.
  current->fiber.Suspend();
  std::abort();
}

bool IsShared(const void* address) {
  const auto distance = reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(shared);
  return distance < kSharedMemoryBytes;
}

int Lane() { return current->lane(); }

void SynchronizeBlock() {
  char* const barrier = &block_barriers[current->barriers++ % 2];
  Release(barrier);
  Wait(State::kAtBarrier);
  Acquire(barrier);
}

void SynchronizeNamed(unsigned block, int number, size_t count) {
  if (number < 0 || number >= kNamedBarriers) Fail("the barrier %d", number);
  NamedBarrier& barrier = named_barriers[block * kNamedBarriers + static_cast<unsigned>(number)];
  char* const place = &barrier.places[barrier.passed % 2];
  Release(place);
  if (++barrier.arrived < count) {
    current->waits_at = &barrier;
    Wait(State::kAtNamedBarrier);
  } else {
    for (size_t i = 0; i < states.size(); ++i) {
      if (states[i] == State::kAtNamedBarrier && threads[i]->waits_at == &barrier) states[i] = State::kRunning;
    }
    barrier.arrived = 0;
    ++barrier.passed;
  }
  Acquire(place);
}

void SynchronizeThreads(int barrier, int count) {
  SynchronizeNamed(current->block, barrier, static_cast<size_t>(count));
}

void SynchronizeCluster() {
  constexpr int kOfCluster = 0;
  SynchronizeNamed(0, kOfCluster, states.size());
}

void WaitForMemory(void* place, const std::function<bool()>& is_over) {
  while (!is_over()) Wait(State::kAtMemoryBarrier);
  Acquire(place);
}

void ArriveAtMemory(void* place) {
  Release(place);
  for (State& state : states) {
    if (state == State::kAtMemoryBarrier) state = State::kRunning;
  }
}

int ClusterRank() { return static_cast<int>(current->block); }

unsigned char* SharedOf(int rank, size_t offset) {
  const auto block = static_cast<unsigned>(rank);
  if (block >= shared_of_block.size()) Fail("block %d of a cluster of %zu", rank, shared_of_block.size());
  return (block == resident_block ? shared : shared_of_block[block].data()) + offset;
}

void Defer(std::function<void()> deferred) { current->deferred.push_back(std::move(deferred)); }

void CommitDeferred() {
  current->deferred_groups.push_back(std::move(current->deferred));
  current->deferred.clear();
}

void WaitForDeferred(size_t pending_groups) {
  while (current->deferred_groups.size() > pending_groups) {
    for (const auto& deferred : current->deferred_groups.front()) deferred();
    current->deferred_groups.pop_front();
  }
}

const unsigned char* Exchange(Collective kind, const void* post, size_t bytes) {
  Thread& self = *current;
  const int first = self.number - self.lane();
  Warp& warp = warps[first / kWarpSize];
  if (warp.arrived == 0) {
    warp.collective = kind;
  } else if (warp.collective != kind) {
    Fail("lane %d takes part in another collective than the lanes of its warp that came before", self.lane());
  }
  const int set = warp.set;
  // Of all collectives __syncwarp alone orders memory.
  const bool orders = kind == Collective::kSynchronize;
  if (orders) Release(warp.posts[set]);
  if (bytes != 0) {
    const Unwatched unwatched;
    std::memcpy(warp.posts[set][self.lane()], post, bytes);
  }
  if (++warp.arrived == kWarpSize) {
    warp.arrived = 0;
    warp.set = 1 - set;
    std::fill_n(states.begin() + first, kWarpSize, State::kRunning);
  } else {
    Wait(State::kInCollective);
  }
  if (orders) Acquire(warp.posts[set]);
  return warp.posts[set][0];
}

void StartCopy(void* target, const void* source) {
  Copy copy;
  copy.target = static_cast<unsigned char*>(target);
  NoteCopy(target, source, sizeof(copy.bytes));
  std::memcpy(copy.bytes, source, sizeof(copy.bytes));
  std::memset(target, kNaNByte, sizeof(copy.bytes));
  current->uncommitted.push_back(copy);
}

void CommitCopies() {
  current->pending.push_back(std::move(current->uncommitted));
  current->uncommitted.clear();
}

void WaitForCopies(size_t pending_groups) {
  while (current->pending.size() > pending_groups) {
    for (const Copy& copy : current->pending.front()) {
      NoteCopy(copy.target, copy.bytes, sizeof(copy.bytes));
      std::memcpy(copy.target, copy.bytes, sizeof(copy.bytes));
    }
    current->pending.pop_front();
  }
}

}  // namespace emulation
