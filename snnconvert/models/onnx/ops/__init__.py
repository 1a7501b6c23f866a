"""ONNX's operators by subject; each file registers its own in the table."""
