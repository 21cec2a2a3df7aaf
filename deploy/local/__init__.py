"""A real Kubernetes cluster on one machine, from pinned Go modules, without a container engine.

`python -m deploy.local up` starts it; `deploy.local.cluster.Cluster` is the same for tests and the demo. Nothing here
knows Tandem itself.
"""
