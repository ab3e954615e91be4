// CUDA's small vectors, with the alignments that its vector loads demand.
#ifndef DCNV2_TESTS_GPU_EMULATION_VECTOR_TYPES_H_
#define DCNV2_TESTS_GPU_EMULATION_VECTOR_TYPES_H_

#define DCNV2_EMULATE_VECTORS(T, name)                                          \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };                            \
  struct name##3 { T x, y, z; };                                                \
  struct alignas(sizeof(T) > 4 ? 16 : 4 * sizeof(T)) name##4 { T x, y, z, w; }; \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                    \
  inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }            \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

DCNV2_EMULATE_VECTORS(int, int)
DCNV2_EMULATE_VECTORS(unsigned, uint)
DCNV2_EMULATE_VECTORS(float, float)
DCNV2_EMULATE_VECTORS(double, double)
DCNV2_EMULATE_VECTORS(short, short)
DCNV2_EMULATE_VECTORS(unsigned short, ushort)
#undef DCNV2_EMULATE_VECTORS

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#endif  // DCNV2_TESTS_GPU_EMULATION_VECTOR_TYPES_H_
