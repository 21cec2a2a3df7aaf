"""The custom resource as pydantic models, and the CRD that is generated from them. Pure."""
