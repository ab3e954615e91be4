"""Sets of TFRecord files: what they hold, and batches for a detector from them."""
