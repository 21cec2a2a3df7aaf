"""How an engine is stopped: one that was only starting has no requests, and may hear no signal."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

LIMIT_SECONDS = 30.0
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


def test_an_engine_that_is_stopped_while_it_starts_gets_no_time_for_requests(tmp_path: Path) -> None:
    script = f"""
        import sys, time
        from pathlib import Path
        from tandem_contracts.stopping import StopTimes
        from tandem_runtime.launch import supervisor
        from tandem_runtime.launch.phases import StartPhases
        supervisor.START_STOP_SECONDS = 0.5
        made = supervisor.Supervisor(
            [sys.executable, "-c", {DEAF!r}],
            {{}},
            health=("127.0.0.1", 9),
            phases=StartPhases(time.monotonic()),
            stop=StopTimes.of_drain(600),
            leaving_file=Path({str(tmp_path / "leaving")!r}),
        )
        sys.exit(0 if made.run() is None else 3)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "deaf\n"
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=LIMIT_SECONDS) == 0
    assert time.monotonic() - begun < LIMIT_SECONDS
    process.stdout.close()


SERVER = """
import http.server, os, signal, sys
from pathlib import Path

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

def ended(*_):
    print("engine ends:", Path(sys.argv[2]).read_text(), flush=True)
    os._exit(0)

signal.signal(signal.SIGTERM, ended)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_an_engine_that_serves_is_told_that_it_leaves_before_it_is_told_to_end(tmp_path: Path) -> None:
    leaving = tmp_path / "leaving"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = f"""
        import dataclasses, logging, sys, time
        from pathlib import Path
        from tandem_contracts.stopping import StopTimes
        from tandem_runtime.launch import supervisor
        from tandem_runtime.launch.phases import StartPhases
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
        file = Path({str(leaving)!r})
        made = supervisor.Supervisor(
            [sys.executable, "-c", {SERVER!r}, "{port}", str(file)],
            {{}},
            health=("127.0.0.1", {port}),
            phases=StartPhases(time.monotonic()),
            stop=dataclasses.replace(StopTimes.of_drain(5), leaving_seconds=1),
            leaving_file=file,
        )
        sys.exit(0 if made.run() is None else 3)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while not process.stdout.readline().startswith("ready"):
        assert process.poll() is None
    assert not leaving.exists()
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    while not leaving.exists():
        assert time.monotonic() - begun < LIMIT_SECONDS, "the server is told that it leaves"
    assert leaving.read_text() == "leaving"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_SECONDS)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200, "it answers on"
    connection.close()
    assert "engine ends: gone\n" in process.stdout.readlines()
    assert process.wait(timeout=LIMIT_SECONDS) == 0
    assert time.monotonic() - begun >= 1
    process.stdout.close()
