"""Files beside a SavedModel's graph, in its folder `assets.extra`: requests to warm it up, and names of the classes."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import tensorflow as tf

# Where TensorFlow Serving looks for the first, and ignores everything else.
_FOLDER = "assets.extra"
_WARM_UP_REQUESTS = "tf_serving_warmup_requests"
_LABELS = "labels.json"


def write_assets(model: Path, requests: Mapping[str, Mapping[str, tf.Tensor]], labels: Mapping[int, str]) -> None:
    """Writes both files.

    Args:
        model: folder of a SavedModel.
        requests: inputs by the name of the signature that takes them. TensorFlow Serving answers each once before it
            calls the model available, so that no client waits for memory to be allocated and constants to be folded.
        labels: names of the classes by category id; no file where there are none.
    """
    folder = model / _FOLDER
    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / _WARM_UP_REQUESTS)) as writer:
        for signature, inputs in requests.items():
            writer.write(prediction_log(signature, inputs))
    if labels:
        text = json.dumps({str(category_id): name for category_id, name in labels.items()}, ensure_ascii=False)
        (folder / _LABELS).write_text(text, encoding="utf-8")


def prediction_log(signature: str, inputs: Mapping[str, tf.Tensor]) -> bytes:
    """A request as TensorFlow Serving logs it: the message `PredictionLog` of `tensorflow_serving.apis`, encoded.

    Encoded here, since the package `tensorflow-serving-api` is needed for nothing else.
    """
    tensors = {name: tf.make_tensor_proto(value).SerializeToString() for name, value in inputs.items()}
    request = [
        _field(1, [_field(3, [signature.encode()])]),  # model_spec { signature_name }
        *(_field(2, [_field(1, [name.encode()]), _field(2, [tensor])]) for name, tensor in tensors.items()),
    ]
    return _field(6, [_field(1, request)])  # predict_log { request }


def _field(number: int, parts: Iterable[bytes]) -> bytes:
    """A length-delimited field of a protocol buffer: a string, a message or an entry of a map."""
    content = b"".join(parts)
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last have the eighth set."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F)
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])
