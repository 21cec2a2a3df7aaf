"""Whether a gate's deployment is gone, by the cluster's DNS. Asked once the gate is to stop, and at no other time.

The API server is not asked, as by nothing in a gate: it has no right on it. A deployment's Service is deleted with it,
and has an address whatever becomes of its pods, so that a name that is not there is a deployment that is not there.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

LOOK_SECONDS = 1.0
TIMES = 2
"""That there has to be no such name, one after the other. It is told for as long as DNS servers remember it: 30 s."""
RESOLV_CONF = Path("/etc/resolv.conf")


async def gone(service: str) -> None:
    """Return once there is no such Service in the pod's namespace. While DNS does not answer, there may be."""
    name = absolute(service, _resolv_conf())
    missing = 0
    while missing < TIMES:
        await asyncio.sleep(LOOK_SECONDS)
        missing = 0 if await _may_be(name) else missing + 1


def absolute(service: str, resolv_conf: str) -> str:
    """The whole name, by the first domain in which pods look names up: that of their namespace.

    Of a name that is not whole the resolver asks the servers outside at last, and where those do not answer it does
    not tell that the cluster knows none.
    """
    lines = [line.split() for line in resolv_conf.splitlines()]
    domains = [words[1] for words in lines if len(words) > 1 and words[0] == "search"]
    return f"{service}.{domains[-1].strip('.')}." if domains else service


def _resolv_conf() -> str:
    return RESOLV_CONF.read_text() if RESOLV_CONF.is_file() else ""


async def _may_be(name: str) -> bool:
    try:
        await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return error.errno != socket.EAI_NONAME
    except OSError:
        return True
    return True
