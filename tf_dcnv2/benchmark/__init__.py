"""Measurements of the ops against their alternatives, behind `tf-dcnv2 benchmark ops`; see docs/performance.md."""
