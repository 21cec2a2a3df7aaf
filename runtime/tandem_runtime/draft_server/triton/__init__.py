"""Drafts by NVIDIA Triton: a model as an ONNX graph, the Python model that serves it, and an engine that asks that."""
