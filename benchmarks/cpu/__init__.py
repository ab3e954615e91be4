"""The ops in TensorFlow measured against their alternatives on a CPU; see docs/performance.md."""
