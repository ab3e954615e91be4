"""From COCO images to training batches: conversion to TFRecords, the input pipeline, a synthetic data set.

Importing this package costs nothing beyond TensorFlow; Model Garden, Pillow and pycocotools are imported by the
functions that need them (`pip install tf-dcnv2[detection]`).
"""

from tf_dcnv2.data.coco_conversion import ConversionReport, convert_coco
from tf_dcnv2.data.dataset_info import DatasetInfo, read_dataset_info
from tf_dcnv2.data.image_files import read_image
from tf_dcnv2.data.record_pipeline import load_records
from tf_dcnv2.data.resizing import prepare_image
from tf_dcnv2.data.synthetic import make_synthetic_coco

__all__ = [
    "ConversionReport",
    "DatasetInfo",
    "convert_coco",
    "load_records",
    "make_synthetic_coco",
    "prepare_image",
    "read_dataset_info",
    "read_image",
]
