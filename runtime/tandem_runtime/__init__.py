"""The data plane: what runs inside engine pods. Never imports the operator."""
