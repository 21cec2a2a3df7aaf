"""What the demo of scaling shows, in a terminal and elsewhere."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from deploy.demo.scaling_view import HISTORY, Frame, View, bars


def frame(part: str = "load", *, within: float | None = 0.5, is_at_gate: bool = False, ready: int = 1) -> Frame:
    return Frame(part, 6, 1.5, None if within is None else 1.25, within, 2, ready, 2, is_at_gate, "needs 2: 6 requests")


def shown(*frames: Frame) -> str:
    stream = io.StringIO()
    with View(stream, target_seconds=0.5, target_share=0.9) as view:
        for each in frames:
            view.show(each)
    return stream.getvalue()


def test_elsewhere_each_part_is_a_line_and_frames_of_one_second_are_none() -> None:
    lines = shown(frame(), frame(), frame("over"), frame("over")).splitlines()
    assert [line.split("s  ")[1] for line in lines] == ["load", "over"]


def test_a_line_has_all_that_is_seen() -> None:
    view = View(io.StringIO(), target_seconds=0.5, target_share=0.9)
    assert view.line(frame()) == (
        "  6 clients, 1.5 requests/s, first token 1.25 s at most, 50% in time; 1 of 2 verifiers; needs 2: 6 requests"
    )
    assert view.line(frame(within=None, is_at_gate=True)).startswith(
        "  6 clients, 1.5 requests/s, first token – at most, – in"
    )
    assert "verifiers, at the gate;" in view.line(frame(is_at_gate=True))


def test_one_client_is_one_and_a_reason_of_long_ago_has_its_age() -> None:
    line = View(io.StringIO(), target_seconds=0.5, target_share=0.9).line
    assert line(replace(frame(), clients=1)).startswith("  1 client, ")
    assert line(replace(frame(), age_seconds=29.0)).endswith("; needs 2: 6 requests")
    assert line(replace(frame(), age_seconds=95.0)).endswith("; needs 2: 6 requests (95 s ago)")


def test_the_picture_has_pods_that_are_ready_those_that_start_and_the_gate() -> None:
    view = View(io.StringIO(), target_seconds=0.5, target_share=0.9)
    view.show(frame(is_at_gate=True))
    console = Console(file=io.StringIO(), width=160)
    with console.capture() as captured:
        console.print(view.picture())
    text = captured.get()
    assert "●○ gate" in text
    assert "1 of 2" in text
    assert "90% within 0.5 s" in text


def test_bars_are_as_high_as_their_share_and_nothing_is_no_bar() -> None:
    assert bars([0.0, 0.5, 1.0, None], most=1.0) == "▁▄█ ".rjust(HISTORY)
    assert bars([None, None]).strip() == ""
    assert bars([2.0, 4.0]).strip() == "▄█"
