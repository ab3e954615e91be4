"""Ends a process of tests that has lost its GPU: after an illegal access to memory every CUDA call fails.

The tests that follow would fail for nothing. pytest-xdist starts another process for them; without it they are not run.
"""

import os
import sys

import pytest


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Looks at the device after each test; the test's own result is reported by then."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        reason = f"the GPU is lost to this process since {item.nodeid}: {error}"
        if "PYTEST_XDIST_WORKER" in os.environ:
            print(reason, file=sys.stderr, flush=True)
            os._exit(1)
        pytest.exit(reason, returncode=1)
