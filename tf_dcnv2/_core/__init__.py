"""What every other package may build on. It imports none of them, and no TensorFlow."""
