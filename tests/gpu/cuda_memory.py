"""Memory of a GPU, by means of PyTorch."""

import numpy as np
import torch
from memory import HostBuffer, inside_guards


class CudaBuffer:
    """As HostBuffer, in the GPU's memory."""

    GUARD = HostBuffer.GUARD

    def __init__(self, size: int, shift: int = 0):
        self._memory = torch.full((size + shift + 2 * self.GUARD,), 0xFF, dtype=torch.uint8, device="cuda")
        self._first = self.GUARD + shift  # PyTorch's own addresses are multiples of 512
        self.size = size
        self.address = self._memory.data_ptr() + self._first

    def write(self, array: np.ndarray) -> None:
        source = torch.from_numpy(array.reshape(-1).view(np.uint8).copy())
        self._memory[self._first : self._first + self.size].copy_(source)

    def read(self) -> np.ndarray:
        return inside_guards(self._memory.cpu().numpy(), self._first, self.size)


class CheckedBuffer(CudaBuffer):
    """For compute-sanitizer, if PYTORCH_NO_CUDA_MEMORY_CACHING=1 makes every tensor an allocation of its own."""

    GUARD = 0


def current_stream() -> int:
    return torch.cuda.current_stream().cuda_stream
