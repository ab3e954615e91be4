"""COCO annotation files, however people's tools write them, and their conversion to records."""
