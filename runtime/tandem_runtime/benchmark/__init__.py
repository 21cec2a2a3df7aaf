"""The Job's program that measures a deployment, from the outside, with vLLM's own client."""
