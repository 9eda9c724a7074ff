"""`tfds`: prepared directories of TensorFlow Datasets, read without TensorFlow."""
