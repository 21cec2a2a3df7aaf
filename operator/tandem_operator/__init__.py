"""Tandem's control plane: reconciles `LLMDeployment` resources into draft pods and verifier pods.

The layers and what each may import are listed in CONTRIBUTING.md and enforced by import-linter.
"""

__version__ = "0.1.0"
