"""Runs the C++ tests of cc/lib under GCC's or Clang's sanitizers, once per sanitizer and instruction set.

    python tools/sanitize.py [memory] [threads]

"memory" looks for bad accesses, leaks and undefined behaviour, "threads" for data races. Builds go to
build/kernel_tests-*, and only what changed is compiled again.
"""

import sys
import time

import doctest_headers
import kernel_tests

COMMON = ["-O1", "-g", "-fno-omit-frame-pointer", "-UNDEBUG", "-D_GLIBCXX_ASSERTIONS", "-fno-sanitize-recover=all"]
SANITIZERS = {
    # A position that overflows an index is what the sampling rule must rule out, and no part of "undefined".
    "memory": ["-fsanitize=address,undefined,float-cast-overflow", *COMMON],
    "threads": ["-fsanitize=thread", *COMMON],
}
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:check_initialization_order=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}


def main(names: list[str]) -> int:
    """Returns the exit status: 0 if every run passed."""
    unknown = [name for name in names if name not in SANITIZERS]
    if unknown:
        print(f"sanitize.py takes {', '.join(SANITIZERS)} or nothing for all. Received: {unknown[0]}", file=sys.stderr)
        return 2
    failures = 0
    for name in names or SANITIZERS:
        program = kernel_tests.build(name, SANITIZERS[name])
        for instruction_set in kernel_tests.instruction_sets():
            start = time.monotonic()
            passed, output = kernel_tests.run_on(instruction_set, [program], ENVIRONMENT)
            failures += not passed
            verdict = "passed" if passed else "FAILED"
            print(f"{name:8} {instruction_set:20} {verdict} in {time.monotonic() - start:.0f} s", flush=True)
            if not passed:
                print(output)
    return min(failures, 1)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except doctest_headers.DoctestUnavailable as error:
        sys.exit(str(error))
