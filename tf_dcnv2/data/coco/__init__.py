"""COCO annotation files, however people's tools write them."""
