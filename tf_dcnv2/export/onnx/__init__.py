"""ONNX files of detectors and of other Keras models with this package's layers, made of standard operators only."""

from tf_dcnv2.export.onnx.exporting import export_onnx

__all__ = ["export_onnx"]
