"""The flags of the C++ and CUDA compilers, for Bazel (BUILD and bazel/*.bzl) and for pip (tools/toolchain.py).

Only assignments of literals and their sums: Python runs this file as it is.
"""

# Of every source, for the C++ compiler and for nvcc.
CXX_FLAGS = ["-std=c++17", "-O3", "-DNDEBUG"]

# What nvcc passes on to the C++ compiler has them too.
WARNING_FLAGS = ["-Wall", "-Wextra"]

# The inner loops exist once per instruction set and are chosen at run time, so that one build serves every machine.
# These flags let the compiler vectorise rounding and selections; neither changes a result.
SIMD_FLAGS = ["-fno-math-errno", "-fno-trapping-math"]

_AVX512 = ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"]

# Of cc/lib/cpu/simd/<name>.cc on an x86-64. The baseline is x86-64-v2, what every processor has that TensorFlow itself
# runs on, named by its newest extension for compilers that do not know the level.
INSTRUCTION_SET_FLAGS = {
    "kernels_baseline": ["-msse4.2"],
    "kernels_avx2": ["-mavx2", "-mfma", "-mf16c"],
    "kernels_avx512": _AVX512,
    "matrix_units_emulated": ["-msse4.2"],
    "matrix_units_avx512_bf16": _AVX512 + ["-mavx512bf16"],
    # The instructions for tiles stand in assembly, and need no flag.
    "matrix_units_amx": _AVX512 + ["-mavx512bf16"],
}

# What the environment variable TF_DCNV2_SIMD may ask for.
INSTRUCTION_SETS = [
    "baseline",
    "avx2",
    "avx512",
    "avx512_bf16",
    "amx",
    "emulated_avx512_bf16",
    "emulated_amx",
]
