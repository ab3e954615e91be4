"""From COCO images to training batches: conversion to TFRecords, the input pipeline, a synthetic data set.

    images      image files of any kind -> RGB pixels in the network's size
    records     TFRecord files, what they hold, and batches from them
    coco        annotation files of any tool, and their conversion to records
    synthetic   a data set that is drawn
    findings    what could not be used of a data set, or had to be repaired

Importing this package costs nothing beyond TensorFlow; Model Garden, Pillow and pycocotools are imported by the
functions that need them (`pip install tf-dcnv2[detection]`).
"""

from tf_dcnv2.data.conversion.converting import ConversionReport, convert_coco
from tf_dcnv2.data.images.files import read_image
from tf_dcnv2.data.images.resizing import prepare_image
from tf_dcnv2.data.records.dataset_info import DatasetInfo, read_dataset_info
from tf_dcnv2.data.records.pipeline import load_records
from tf_dcnv2.data.synthetic.shapes import make_synthetic_coco

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
