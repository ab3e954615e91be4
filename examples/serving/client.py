"""Asks a TensorFlow Serving for the detections in image files, over gRPC or REST.

    docker run -p 8500:8500 -p 8501:8501 -v $PWD/served/cells:/models/cells -e MODEL_NAME=cells tensorflow/serving
    python client.py localhost:8500 cells image.jpg another.png             # gRPC
    python client.py http://localhost:8501 cells image.jpg another.png      # REST

gRPC needs `pip install tensorflow-serving-api`, REST nothing beyond Python. The files are sent as they are: the model
decodes and resizes them, and boxes are in pixels of each file.
"""

import base64
import json
import sys
import urllib.request
from pathlib import Path

SIGNATURE = "serving_bytes"


def rest_body(files: list[bytes]) -> dict:
    """The body of a request to `/v1/models/MODEL:predict`."""
    # By column: one list for each input, as the detections come back.
    encoded = [{"b64": base64.b64encode(content).decode()} for content in files]
    return {"signature_name": SIGNATURE, "inputs": {"image_bytes": encoded}}


def ask_rest(server: str, model: str, files: list[bytes]) -> dict[str, list]:
    """Detections by name, one entry an image."""
    request = urllib.request.Request(
        f"{server}/v1/models/{model}:predict",
        json.dumps(rest_body(files)).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)["outputs"]


def grpc_request(model: str, files: list[bytes]):
    """The message that the service's `Predict` takes."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = SIGNATURE
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(files, tf.string))
    return request


def ask_grpc(server: str, model: str, files: list[bytes]) -> dict[str, list]:
    """Detections by name, one entry an image."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    # A hundred masks an image take more than the 4 MB that gRPC expects.
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server, options) as channel:
        service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        response = service.Predict(grpc_request(model, files), timeout=60)
    return {name: tf.make_ndarray(value).tolist() for name, value in response.outputs.items()}


def main(server: str, model: str, *paths: str) -> None:
    ask = ask_rest if server.startswith("http") else ask_grpc
    detections = ask(server, model, [Path(path).read_bytes() for path in paths])
    for index, path in enumerate(paths):
        for number in range(detections["num_detections"][index]):
            if (score := detections["scores"][index][number]) >= 0.5:
                box = ", ".join(f"{value:.0f}" for value in detections["boxes"][index][number])
                print(f"{path}: class {detections['classes'][index][number]}, score {score:.2f}, y1 x1 y2 x2 {box}")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
