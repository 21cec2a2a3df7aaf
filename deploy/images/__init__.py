"""Builds Tandem's images without a container engine, and brings them to the local cluster or to a registry.

`python -m deploy.images build` and `… load` are all that most people need. Each image is a folder here with a
Containerfile that any other builder builds as well; `pause`, which only the local cluster needs, is one Go file.
"""
