"""From annotations and images to TFRecords."""
