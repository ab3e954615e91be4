"""Image files of any kind as RGB pixels in the size the network wants."""
