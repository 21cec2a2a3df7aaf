"""A name that is none never becomes a part of an address: it is refused by every command that takes one."""

from __future__ import annotations

import pytest

from tandem_operator.cli.main import main

COMMANDS = ("status", "why", "top", "bench", "refresh", "rollback", "pause", "resume", "debug bundle")


@pytest.mark.parametrize("name", ["", "a/status", "../pods", "a?x=1", "A", "a" * 41])
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_name_is_refused_with_the_rule(command: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), name, "-n", "chat", "--kubeconfig", "/nowhere"])
    assert ended.value.code == 2
    assert f"argument NAME: (is {name!r}) must be a DNS-1035 label of at most 40" in capsys.readouterr().err
