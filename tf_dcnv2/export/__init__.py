"""Detectors as SavedModels and ONNX files, for TensorFlow Serving and for programs without this package."""

from tf_dcnv2.export.onnx import export_onnx
from tf_dcnv2.export.onnx.openvino_reader import openvino_extension
from tf_dcnv2.export.saved_model import export_saved_model, load_exported, op_library_path

__all__ = ["export_onnx", "export_saved_model", "load_exported", "op_library_path", "openvino_extension"]
