"""Data sets in other layouts than COCO's, read as what a COCO file of the same objects would hold.

So they pass the same checks, and everything that is left out or repaired ends up in the same report.
"""
