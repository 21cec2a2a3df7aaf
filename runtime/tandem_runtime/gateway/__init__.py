"""The wake gate: answers at a deployment's address while it has no pods, holds requests, and passes them on.

Not in the path otherwise. It runs in the operator's image, which is small and has aiohttp, and so imports nothing else
of the data plane; `tandem_contracts.gate` has its options. It knows pods by a Service's name, not from the operator.
"""
