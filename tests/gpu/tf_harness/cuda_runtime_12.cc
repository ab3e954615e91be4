// Stands in for libcudart.so.12, as far as TensorFlow 2.20 calls it while it makes its GPU device: for the emulated
// driver, and for GPUs where that library cannot be had. There is one device. No kernels of TensorFlow's can run.
#pragma GCC visibility push(default)
extern "C" {

int cudaRuntimeGetVersion(int* version) {
  *version = 12050;
  return 0;
}
int cudaGetDevice(int* device) {
  *device = 0;
  return 0;
}
int cudaSetDevice(int) { return 0; }
int cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = *greatest = 0;
  return 0;
}
const char* cudaGetErrorName(int) { return "an error of the CUDA runtime's stand-in"; }
const char* cudaGetErrorString(int error) { return cudaGetErrorName(error); }

// TensorFlow's kernels register themselves; nobody will look for them.
void** __cudaRegisterFatBinary(void*) { return nullptr; }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char*, char*, const char*, int, void*, void*, void*, void*, int*) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, unsigned long, int, int) {}

}  // extern "C"
#pragma GCC visibility pop
