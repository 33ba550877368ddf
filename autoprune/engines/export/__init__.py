"""A model under a schedule as static graphs: torch.export programs, ONNX files, and the script that runs them."""
