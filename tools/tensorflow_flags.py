"""How C++ is compiled and linked against the TensorFlow that this Python imports.

Needs nothing but the standard library: TensorFlow is asked by another process.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from tensorflow_release import SUPPORTED, installed_version
from toolchain import BuildError

_QUERY = """
import json, tensorflow as tf
print(json.dumps({"version": tf.__version__, "compile": tf.sysconfig.get_compile_flags(),
                  "link": tf.sysconfig.get_link_flags(), "library_folder": tf.sysconfig.get_lib(),
                  "cxx11_abi": tf.sysconfig.CXX11_ABI_FLAG}))
"""


def installed(directory: Path) -> dict:
    """TensorFlow's `version`, its flags `compile` and `link`, its `library_folder` and `cxx11_abi`.

    Asking takes seconds, so the answer is kept in `directory` as long as the installation is the same.

    Raises:
        BuildError: TensorFlow cannot be imported.
    """
    cache = directory / "tensorflow.json"
    key = [sys.executable, installed_version(), _QUERY]
    if cache.exists():
        cached = json.loads(cache.read_text())
        if cached["key"] == key and key[1]:
            return cached["answer"]
    answer = _query()
    # TensorFlow's own headers are not ours to clean of warnings.
    answer["compile"] = [f"-isystem{flag[2:]}" if flag.startswith("-I") else flag for flag in answer["compile"]]
    cache.write_text(json.dumps({"key": key, "answer": answer}))
    return answer


def _query() -> dict:
    """Asked in another process, to free its memory."""
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
    done = subprocess.run([sys.executable, "-c", _QUERY], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildError(
            f"TensorFlow cannot be imported by {sys.executable}, and the custom ops are compiled against it. Install "
            f"it with `pip install '{SUPPORTED}'` and repeat the command. It said:\n" + done.stderr[-2000:]
        )
    return json.loads(done.stdout.splitlines()[-1])
