"""A small COCO-format data set of deformed shapes, drawn on demand."""
