"""The clients in examples/, against exported models; no server is started."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.export.conftest import NAMES, pictures
from tf_dcnv2.export import load_exported, op_library_path

EXAMPLES = Path(__file__).parents[2] / "examples"


def load_client():
    spec = importlib.util.spec_from_file_location("client", EXAMPLES / "serving" / "client.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [tf.io.encode_png(image).numpy() for image in pictures((50, 80), (131, 70))]


def input_of(path: str, signature: str) -> tuple[str, int]:
    """Name and type of the only input of a signature."""
    function = tf.saved_model.load(path).signatures[signature]
    [(name, spec)] = function.structured_input_signature[1].items()
    return name, spec.dtype.as_datatype_enum


def test_a_grpc_request_is_what_the_signature_takes(exported, files):
    pytest.importorskip("tensorflow_serving.apis")
    client = load_client()
    request = client.grpc_request("cells", files)
    sent = type(request).FromString(request.SerializeToString())
    assert sent.model_spec.name == "cells"
    name, dtype = input_of(exported["portable"], sent.model_spec.signature_name)
    assert {key: value.dtype for key, value in sent.inputs.items()} == {name: dtype}
    assert tf.make_ndarray(sent.inputs[name]).tolist() == files


def test_a_rest_request_is_what_the_signature_takes(exported, files):
    client = load_client()
    body = json.loads(json.dumps(client.rest_body(files)))
    name, dtype = input_of(exported["portable"], body["signature_name"])
    # TensorFlow Serving decodes objects with the one key b64, in inputs that are strings.
    assert dtype == tf.string.as_datatype_enum
    assert set(body["inputs"]) == {name} and all(set(entry) == {"b64"} for entry in body["inputs"][name])


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_client_prints_what_a_server_answers(exported, files, protocol, tmp_path, capsys):
    if protocol == "grpc":
        pytest.importorskip("tensorflow_serving.apis")
    serve = serve_grpc if protocol == "grpc" else serve_rest
    detect = load_exported(exported["portable"], "serving_bytes")
    paths = [tmp_path / f"{index}.png" for index in range(len(files))]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    found = detect(files)
    # Clients print what has a score of at least 0.5.
    with serve(lambda contents: {**detect(contents), "scores": 0.5 + found["scores"]}) as address:
        load_client().main(address, "cells", *map(str, paths))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == int(tf.reduce_sum(found["num_detections"]))
    assert lines[0].startswith(f"{paths[0]}: class {found['classes'][0, 0]}, score {0.5 + found['scores'][0, 0]:.2f}")


class serve_rest:
    """An HTTP server that answers as TensorFlow Serving does, for the one request that the client sends."""

    def __init__(self, detect):
        import base64
        from http.server import BaseHTTPRequestHandler, HTTPServer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path == "/v1/models/cells:predict"
                contents = [base64.b64decode(entry["b64"]) for entry in body["inputs"]["image_bytes"]]
                outputs = {name: value.numpy().tolist() for name, value in detect(contents).items()}
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"outputs": outputs}).encode())

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class serve_grpc:
    """TensorFlow Serving's own service, in this process."""

    def __init__(self, detect):
        from concurrent import futures

        import grpc
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
            def Predict(self, request, context):
                contents = tf.make_ndarray(request.inputs["image_bytes"])
                response = predict_pb2.PredictResponse()
                for name, value in detect(contents).items():
                    response.outputs[name].CopyFrom(tf.make_tensor_proto(value.numpy()))
                return response

        self.server = grpc.server(futures.ThreadPoolExecutor(1))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> str:
        self.server.start()
        return f"127.0.0.1:{self.port}"

    def __exit__(self, *_):
        self.server.stop(None).wait()


def test_the_python_example_names_what_it_detects(exported, files, tmp_path, capsys):
    (tmp_path / "x.png").write_bytes(files[0])
    scope = {"__name__": "example"}
    exec((EXAMPLES / "serve.py").read_text().replace(">= 0.5", ">= 0"), scope)
    scope["main"](exported["portable"], str(tmp_path / "x.png"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 100
    assert all(line.startswith(f"{tmp_path / 'x.png'}: ") for line in lines)
    assert {line.split(": ")[1].split(",")[0] for line in lines} <= set(NAMES.values())


@pytest.mark.slow  # compiles for a quarter of a minute
def test_a_cpp_program_gives_pythons_detections_from_both_exports(exported, files, tmp_path):
    build = ["make", "-C", str(EXAMPLES / "serving_cpp"), f"PYTHON={sys.executable}", f"BUILD={tmp_path}"]
    subprocess.run(build, check=True, capture_output=True)
    (tmp_path / "x.png").write_bytes(files[1])
    for ops, library in {"portable": [], "native": [op_library_path()]}.items():
        command = [tmp_path / "detect", exported[ops], tmp_path / "x.png", *library]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows = np.array([[float(word) for word in line.split()] for line in output.splitlines()])
        found = {name: value[0] for name, value in load_exported(exported[ops], "serving_bytes")([files[1]]).items()}
        assert len(rows) == int(found["num_detections"]) > 0
        np.testing.assert_array_equal(rows[:, 0], found["classes"])
        np.testing.assert_allclose(rows[:, 1], found["scores"], atol=1e-5)
        np.testing.assert_allclose(rows[:, 2:], found["boxes"], atol=1e-3)
    # What is missing is named.
    broken = [[exported["native"], tmp_path / "no.png"], [tmp_path, tmp_path / "x.png"]]
    for arguments in broken:
        failed = subprocess.run([tmp_path / "detect", *arguments], capture_output=True, text=True, check=False)
        assert failed.returncode == 1 and "detect: " in failed.stderr


@pytest.fixture(scope="session")
def requests_folder(detector, tmp_path_factory) -> Path:
    """Images of mixed sizes, and what the detector finds in them."""
    folder = tmp_path_factory.mktemp("requests")
    images = pictures((50, 80), (131, 70), (97, 97), (64, 200), (300, 260))
    np.savez(folder / "images.npz", *images)
    expected = [{name: value.tolist() for name, value in found.items()} for found in detector.detect(images)]
    (folder / "expected.json").write_text(json.dumps(expected))
    return folder


def serve(exported, ops: str, folder: Path, *, requests: int, **environment: str) -> dict:
    """What `serve_requests.py` reports."""
    script = Path(__file__).with_name("serve_requests.py")
    library = op_library_path() if ops == "native" else ""
    result = subprocess.run(
        [sys.executable, script, exported[ops], library, str(requests), "4"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
    )
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("ops", ["native", "portable"])
def test_a_thousand_requests_of_mixed_sizes_from_four_threads_are_answered_in_flat_memory(
    exported, ops, requests_folder
):
    report = serve(exported, ops, requests_folder, requests=1000)
    assert report["answered"] == 1000 and report["wrong"] == 0
    # Allocators keep what the largest batch took; a leak of one image a request would be 150 MB.
    assert report["megabytes_at_the_end"] < report["megabytes_after_300"] + 40


@pytest.mark.parametrize("ops", ["native", pytest.param("portable", marks=pytest.mark.slow)])
def test_answers_are_the_same_where_tensorflow_keeps_weights_as_onednn_wants_them(exported, ops, requests_folder):
    # TensorFlow takes the second factor of every product for a weight then: none may depend on the image.
    report = serve(exported, ops, requests_folder, requests=20, TF_ONEDNN_ASSUME_FROZEN_WEIGHTS="1")
    assert report["answered"] == 20 and report["wrong"] == 0
