"""Serves requests from several threads, without this package: `serve_requests.py MODEL OP_LIBRARY REQUESTS THREADS`."""

import concurrent.futures
import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf


def memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main(model_path: str, library: str, requests: int, threads: int) -> None:
    if library:
        tf.load_op_library(library)
    images = list(np.load("images.npz").values())
    expected = json.loads(Path("expected.json").read_text())
    model = tf.saved_model.load(model_path)
    detect, detect_files = model.signatures["serving_default"], model.signatures["serving_bytes"]
    files = [tf.io.encode_png(image) for image in images]

    def answer(number: int) -> bool:
        index = number % len(images)
        if number % 2:
            size = tf.constant([images[index].shape[:2]])
            found = detect(images=tf.constant(images[index])[None], image_sizes=size)
        else:
            found = detect_files(image_bytes=files[index][None])
        count = int(found["num_detections"][0])
        wanted = expected[index]
        return (
            count == len(wanted["scores"])
            and np.allclose(found["scores"][0, :count], wanted["scores"], rtol=0, atol=1e-5)
            and np.allclose(found["boxes"][0, :count], wanted["boxes"], rtol=0, atol=1e-3)
        )

    first = min(300, requests)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        right = list(pool.map(answer, range(first)))
        after_first = memory_mb()
        right += pool.map(answer, range(first, requests))
    report = {
        "answered": len(right),
        "wrong": right.count(False),
        "megabytes_after_300": after_first,
        "megabytes_at_the_end": memory_mb(),
    }
    print(json.dumps(report))
    assert not any(name.startswith("tf_dcnv2") for name in sys.modules)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
