"""`python -m tandem_runtime.gateway`: holds requests until pods answer, until SIGTERM. Flags: tandem_contracts.gate."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server

from tandem_contracts.gate import GateOptions, InvalidGateOptionsError
from tandem_contracts.launch import API_KEY_VARIABLE, TERMINATION_LOG, Access
from tandem_contracts.termination import ExitCode, Phase, Reason, TerminationMessage
from tandem_runtime.gateway.figures import Figures
from tandem_runtime.gateway.server import Gate

ALL_INTERFACES = "0.0.0.0"  # noqa: S104 - pods are reached at their own address
MOST_FILES = 65_536

logger = logging.getLogger("tandem_runtime.gateway")


def main(arguments: list[str]) -> ExitCode:
    """Serves to the end; what went wrong is in the log and in the termination log."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="(gate) %(levelname)s %(message)s")
    termination_log = TERMINATION_LOG
    try:
        options = GateOptions.parse(arguments)
        termination_log = options.termination_log
        key = _key(options)
        _prepare_process()
        asyncio.run(_serve(options, key))
    except InvalidGateOptionsError as cause:
        return _ended(ExitCode.INVALID_OPTIONS, Phase.CHECK, Reason.INVALID_OPTIONS, str(cause), termination_log)
    except Exception as failure:
        logger.exception("the gate failed")
        message = f"{type(failure).__name__}: {failure}"
        return _ended(ExitCode.GATE_FAILED, Phase.SERVE, Reason.GATE_FAILED, message, termination_log)
    logger.info("stopped as asked")
    return ExitCode.OK


async def _serve(options: GateOptions, key: str) -> None:
    stop_wanted = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop_wanted.set)
    registry = CollectorRegistry()
    metrics_server, metrics_thread = start_http_server(
        options.metrics_port, addr=options.host or ALL_INTERFACES, registry=registry
    )
    gate = Gate(options, key=key, figures=Figures(registry))
    try:
        await gate.start(options.host, options.http_port)
        logger.info("holds requests for %s until a pod at %s answers", options.served_name, options.upstream)
        await stop_wanted.wait()
        await gate.leave(options.leaving_seconds)
        logger.info("stopping: what is held waits for at most %d s more", options.drain_seconds)
        await gate.stop(options.drain_seconds)
    finally:
        metrics_server.shutdown()
        metrics_server.server_close()
        metrics_thread.join(timeout=5)


def _key(options: GateOptions) -> str:
    if options.access is Access.OPEN:
        return ""
    if key := os.environ.get(API_KEY_VARIABLE):
        return key
    raise InvalidGateOptionsError(f"{API_KEY_VARIABLE}: '' is not allowed here (allowed: a text, from the Secret)")


def _prepare_process() -> None:
    # Read by the C library at the first lookup: a thread that waits for a DNS server cannot be interrupted.
    os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:2")
    # Each request has up to two connections, and containers often begin with room for 1024 files.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _ended(code: ExitCode, phase: Phase, reason: Reason, message: str, termination_log: str) -> ExitCode:
    last_word = TerminationMessage(code=code, phase=phase, reason=reason, message=message)
    logger.error("%s in phase %s: %s", reason, phase, message)
    try:
        Path(termination_log).write_text(last_word.encode())
    except OSError as failure:
        logger.warning("the termination log cannot be written: %s", failure)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
