"""`python -m tandem_operator`: run the operator, for one namespace or for all of them."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

import kopf
from prometheus_client import REGISTRY, start_http_server

from tandem_operator import __version__
from tandem_operator.accelerators import table_of
from tandem_operator.artifact_figures import ArtifactFigures
from tandem_operator.config import InvalidConfigError, OperatorConfig
from tandem_operator.deployment_figures import DeploymentFigures
from tandem_operator.handlers import Shell, registry_of, settings_of
from tandem_operator.logs import FORMATS, set_up

HEALTH_PORT = 8080
METRICS_PORT = 9090


def main() -> int:
    """Run until SIGTERM. Exit code 2: the configuration is wrong; 1: the lease was lost."""
    options = _options()
    set_up(level=options.log_level, form=options.log_format)
    try:
        config = OperatorConfig.load(options.config)
        table_of(config)
    except InvalidConfigError as error:
        sys.stderr.write(f"{options.config}: {error}\n")
        return 2
    shell = Shell(namespace=options.namespace, identity=_identity(), config=config, health_port=options.health_port)
    if options.metrics_port:
        for figures in (ArtifactFigures, DeploymentFigures):
            REGISTRY.register(figures(shell.store))
        start_http_server(options.metrics_port)
    served = f"namespace {shell.served}" if shell.served else f"every namespace, from {options.namespace}"
    logging.getLogger(__name__).info("Tandem %s for %s", __version__, served)
    kopf.run(
        registry=registry_of(shell),
        settings=settings_of(),
        standalone=True,
        namespaces=[shell.served] if shell.served else (),
        clusterwide=not shell.served,
    )
    return 0


def _options() -> argparse.Namespace:
    environment = os.environ
    parser = argparse.ArgumentParser(prog="tandem_operator", description=__doc__)
    parser.add_argument(
        "--namespace",
        default=environment.get("TANDEM_NAMESPACE"),
        required=not environment.get("TANDEM_NAMESPACE"),
        help="the operator's own namespace: the one it serves, unless its scope is Cluster (TANDEM_NAMESPACE)",
    )
    config = environment.get("TANDEM_CONFIG")
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(config) if config else None,
        help="YAML file with the operator's configuration (TANDEM_CONFIG)",
    )
    parser.add_argument("--health-port", type=int, default=HEALTH_PORT, help="port of /healthz and /readyz; 0: none")
    parser.add_argument("--metrics-port", type=int, default=METRICS_PORT, help="port of /metrics; 0: none")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    parser.add_argument("--log-format", default="json", choices=FORMATS, help="one record a line, either way")
    return parser.parse_args()


def _identity() -> str:
    """Who holds the lease: the pod, or outside of one the host, and the process."""
    return f"{os.environ.get('POD_NAME') or os.environ.get('HOSTNAME') or 'local'}-{os.getpid()}"


if __name__ == "__main__":
    sys.exit(main())
