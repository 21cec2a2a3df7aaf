"""How an engine is stopped: one that was only starting has no requests, and may hear no signal."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

LIMIT_SECONDS = 30.0
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


def test_an_engine_that_is_stopped_while_it_starts_gets_no_time_for_requests() -> None:
    script = f"""
        import sys, time
        from tandem_runtime.launch import supervisor
        from tandem_runtime.launch.phases import StartPhases
        supervisor.START_STOP_SECONDS = 0.5
        made = supervisor.Supervisor(
            [sys.executable, "-c", {DEAF!r}],
            {{}},
            health=("127.0.0.1", 9),
            phases=StartPhases(time.monotonic()),
            stop_limit_seconds=600.0,
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
