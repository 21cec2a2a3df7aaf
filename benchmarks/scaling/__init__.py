"""Autoscalers on simulated engines: the operator's own decisions, and ports of what others ship, on the same requests.

`python -m benchmarks.scaling`. Nothing here waits or asks a clock: time is simulated; a seed gives the same figures.
"""
