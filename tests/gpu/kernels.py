"""The kernels as functions of NumPy arrays, on a GPU, on the emulated one, or on the processor.

Needs NumPy, the compilers, and for a GPU PyTorch; never TensorFlow. Arrays of bfloat16 are given as their bits, uint16.

    gpu = Kernels("cuda")
    y = gpu.conv_forward("float16", geometry, ConvArrays(x, kernel, offset, mask))
"""

import ctypes
from ctypes import Structure, byref, c_int64, c_void_p
from typing import NamedTuple

import numpy as np
from c_api import STORAGES, ConvArraysC, OptionsC, RoiArraysC, RoiGradientsC, load
from memory import CheckedBuffer, HostBuffer


def store(values: np.ndarray, storage: str) -> np.ndarray:
    """Rounds numbers to a storage type, to the even one of two."""
    if storage != "bfloat16":
        return np.ascontiguousarray(values, STORAGES[storage].stored)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


def widen(stored: np.ndarray, storage: str) -> np.ndarray:
    """The same numbers in float64."""
    if storage == "bfloat16":
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float64)


class ConvArrays(NamedTuple):
    """Inputs, or gradients by them; `mask` may be None."""

    x: np.ndarray
    kernel: np.ndarray
    offset: np.ndarray
    mask: np.ndarray | None


class RoiArrays(NamedTuple):
    """Inputs of a pooling; `offset` and `mask` may be None."""

    features: list[np.ndarray]
    boxes: np.ndarray
    box_indices: np.ndarray
    levels: np.ndarray
    offset: np.ndarray | None
    mask: np.ndarray | None


class RoiGradients(NamedTuple):
    features: list[np.ndarray]
    offset: np.ndarray | None
    mask: np.ndarray | None


class Launch(NamedTuple):
    """What the emulated device did for one launch of a kernel."""

    blocks: int
    threads: int  # of a block
    shared_bytes: int  # of a block
    additions: int  # of numbers to global memory, atomically


class KernelError(RuntimeError):
    """A function of the library returned an error."""


class Kernels:
    """The functions of one device, which is one of these, or "cpu" of a library that is given.

    "cuda", "emulated": a GPU, or the emulated one. Arrays lie between bytes that must not change.
    "cuda-checked", "emulated-checked": likewise, for compute-sanitizer or the address sanitizer: arrays are whole
        allocations, outside of which those tools see every access.
    "emulated-races": likewise, for the thread sanitizer.

    Arrays that a function writes are full of NaN before, and arrays that it reads must come back unchanged. `shift`
    elements are left out before every array, so that its address is not aligned.
    """

    def __init__(self, device: str, library: ctypes.CDLL | None = None):
        self.device = device
        self.is_emulated = device.startswith("emulated")
        self.library = library or load(device)
        self._stream = None
        if device.startswith("cuda"):
            import cuda_memory

            self._buffer = cuda_memory.CheckedBuffer if device == "cuda-checked" else cuda_memory.CudaBuffer
            self._stream = cuda_memory.current_stream()
        else:
            self._buffer = CheckedBuffer if device == "emulated-checked" else HostBuffer

    def processor(self) -> "Kernels":
        """The processor's kernels in the same library."""
        return Kernels("cpu", self.library)

    def emulate(self, capability: tuple[int, int] = (9, 0), multiprocessors: int = 4, seed: int = 0) -> None:
        """Chooses what the emulated device is, and the order in which it runs things."""
        self.library.emulated_device(*capability, multiprocessors, ctypes.c_uint64(seed))

    def launches(self) -> list[Launch]:
        """The emulated device's launches since the last call."""
        records = np.empty((1000, 4), np.uint64)
        count = self.library.emulated_launches(c_void_p(records.ctypes.data), c_int64(len(records)))
        return [Launch(*map(int, record)) for record in records[:count]]

    def conv_forward(
        self, storage, geometry, inputs, *, allow_tf32=True, deterministic=False, shift=0, tuning=(), has_workspace=True
    ) -> np.ndarray:
        """`tuning` is (tile, slab_steps, blocks_per_multiprocessor) where the kernels are not to choose themselves."""
        run = _Run(self, storage, shift)
        options = OptionsC(allow_tf32, deterministic, *tuning)
        y = run.output(geometry.y_shape)
        arrays = ConvArraysC(*run.conv_inputs(inputs))
        shape = geometry.as_c()
        workspace = run.workspace("conv_forward", shape, options) if has_workspace else None
        run.call("conv_forward", shape, arrays, y, workspace=workspace, options=options)
        return run.results([y])[0]

    def conv_backward(
        self,
        storage,
        geometry,
        inputs,
        dy,
        *,
        allow_tf32=True,
        deterministic=False,
        shift=0,
        tuning=(),
        wanted=("x", "kernel", "offset"),
    ) -> ConvArrays:
        """Gradients that are not `wanted` are None; that of the mask is wanted with the offset's."""
        run = _Run(self, storage, shift)
        options = OptionsC(allow_tf32, deterministic, *tuning)
        arrays = ConvArraysC(*run.conv_inputs(inputs))
        has_mask = "offset" in wanted and inputs.mask is not None
        outputs = [
            run.output(geometry.x_shape) if "x" in wanted else None,
            run.output(geometry.kernel_shape) if "kernel" in wanted else None,
            run.output(geometry.offset_shape, computed=True) if "offset" in wanted else None,
            run.output(geometry.mask_shape, computed=True) if has_mask else None,
        ]
        gradients = ConvArraysC(*(None if buffer is None else buffer.address for buffer in outputs))
        shape = geometry.as_c()
        workspace = run.workspace("conv_backward", shape, options)
        run.call("conv_backward", shape, arrays, run.input(dy), gradients, workspace=workspace, options=options)
        return ConvArrays(*run.results(outputs))

    def roi_forward(self, storage, geometry, inputs, *, shift=0) -> np.ndarray:
        run = _Run(self, storage, shift)
        y = run.output(geometry.y_shape)
        run.call("roi_forward", geometry.as_c(), run.roi_inputs(inputs), y)
        return run.results([y])[0]

    def roi_backward(self, storage, geometry, inputs, dy, *, deterministic=False, shift=0) -> RoiGradients:
        run = _Run(self, storage, shift)
        options = OptionsC(True, deterministic)
        features = [run.output(shape) for shape in geometry.feature_shapes]
        bins = (geometry.rois, *geometry.pooled)
        offset = None if inputs.offset is None else run.output((*bins, 2), computed=True)
        mask = None if inputs.mask is None else run.output(bins, computed=True)
        addresses = [None if buffer is None else buffer.address for buffer in (offset, mask)]
        gradients = RoiGradientsC(_address_array([buffer.address for buffer in features]), *addresses)
        problem = geometry.as_c()
        workspace = run.workspace("roi_backward", problem, options)
        arguments = (run.roi_inputs(inputs), run.input(dy), gradients)
        run.call("roi_backward", problem, *arguments, workspace=workspace, options=options)
        *features, offset, mask = run.results([*features, offset, mask])
        return RoiGradients(features, offset, mask)


class _Run:
    """One call of the library: the arrays in the device's memory, and what to look at afterwards."""

    def __init__(self, kernels: Kernels, storage: str, shift: int):
        self.kernels, self.storage = kernels, STORAGES[storage]
        self.shift, self._inputs = shift, []

    def input(self, array: np.ndarray | None, dtype=None) -> int | None:
        """The address of a copy of `array`, which is of the storage type unless `dtype` says otherwise."""
        if array is None:
            return None
        array = np.ascontiguousarray(array)
        if array.dtype != np.dtype(dtype or self.storage.stored):
            raise TypeError(f"expected {dtype or self.storage.stored}. Received: {array.dtype}")
        buffer = self.kernels._buffer(array.nbytes, self.shift * array.itemsize)
        buffer.write(array)
        self._inputs.append((buffer, array))
        return buffer.address

    def conv_inputs(self, inputs: ConvArrays) -> list[int | None]:
        compute = self.storage.compute
        addresses = [self.input(inputs.x), self.input(inputs.kernel)]
        return [*addresses, self.input(inputs.offset, compute), self.input(inputs.mask, compute)]

    def roi_inputs(self, inputs: RoiArrays) -> RoiArraysC:
        compute = self.storage.compute
        return RoiArraysC(
            _address_array([self.input(level) for level in inputs.features]),
            self.input(inputs.boxes, compute),
            *(self.input(indices, np.int32) for indices in (inputs.box_indices, inputs.levels)),
            *(self.input(array, compute) for array in (inputs.offset, inputs.mask)),
        )

    def output(self, shape: tuple[int, ...], computed: bool = False):
        """A buffer for an array of the storage type, or the type that is computed with."""
        dtype = self.storage.compute if computed else self.storage.stored
        buffer = self.kernels._buffer(int(np.prod(shape)) * dtype.itemsize, self.shift * dtype.itemsize)
        buffer.shape, buffer.dtype = shape, dtype
        return buffer

    def workspace(self, function: str, problem: Structure, options: OptionsC):
        if self.kernels.device == "cpu":
            return None
        query = getattr(self.kernels.library, f"dcnv2_{function}_workspace_gpu")
        size = query(self.storage.code, byref(problem), byref(options))
        return self.kernels._buffer(size) if size else None

    def call(self, name, *arguments, workspace=None, options=None) -> None:
        device = "cpu" if self.kernels.device == "cpu" else "gpu"
        arguments = [_as_c(argument) for argument in arguments]
        if device == "gpu":
            if name != "roi_forward":
                arguments.append(c_void_p(workspace.address if workspace else None))
            if options is not None:
                arguments.append(byref(options))
            arguments.append(c_void_p(self.kernels._stream))
        error = getattr(self.kernels.library, f"dcnv2_{name}_{device}")(self.storage.code, *arguments)
        if error:
            raise KernelError(self.kernels.library.dcnv2_message(error).decode())
        for buffer, array in self._inputs:
            assert np.array_equal(buffer.read(), array.reshape(-1).view(np.uint8)), "a kernel wrote to an input"
        if workspace:
            workspace.read()

    def results(self, buffers) -> list[np.ndarray | None]:
        return [None if b is None else b.read().copy().view(b.dtype).reshape(b.shape) for b in buffers]


def _address_array(addresses: list[int]):
    return (c_void_p * len(addresses))(*addresses)


def _as_c(argument):
    """Structures by address, buffers and addresses as pointers."""
    if isinstance(argument, Structure):
        return byref(argument)
    return c_void_p(getattr(argument, "address", argument))
