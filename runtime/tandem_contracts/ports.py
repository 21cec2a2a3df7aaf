"""The ports of an engine pod."""

HTTP_PORT = 8000
HTTP_PORT_NAME = "http"
GRPC_PORT = 8002
GRPC_PORT_NAME = "grpc"
METRICS_PORT = 8001
METRICS_PORT_NAME = "metrics"
HEALTH_PORT = 8003
HEALTH_PORT_NAME = "health"
"""Of a draft that speaks TLS on its gRPC port: the kubelet's probes cannot."""
