"""What there is to know about a set of records before a detector is trained on it."""
