"""One call at a time to something slow, made in a thread of its own, so that no engine step ever waits without bound.

Must not know what the call asks for or how it travels.
"""

import dataclasses
import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Question = TypeVar("Question")
Reply = TypeVar("Reply")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answered(Generic[Question, Reply]):
    """A call that came back, after `seconds`."""

    question: Question
    reply: Reply
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failed:
    """A call that raised; `cause` says why."""

    cause: str


class Caller(Generic[Question, Reply]):
    """Runs `call` for one question at a time in a daemon thread."""

    def __init__(self, call: Callable[[Question], Reply]) -> None:
        self._call = call
        self._questions: queue.SimpleQueue[Question] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Answered[Question, Reply] | Failed] = queue.SimpleQueue()
        self._is_busy = False
        threading.Thread(target=self._serve, name="drafts", daemon=True).start()

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way whose outcome has not been taken."""
        return self._is_busy

    def start(self, question: Question) -> None:
        """Begins a call. Raises RuntimeError when one is under way."""
        if self._is_busy:
            raise RuntimeError("a call is already under way")
        self._is_busy = True
        self._questions.put(question)

    def take(self, wait_seconds: float) -> Answered[Question, Reply] | Failed | None:
        """The outcome of the call under way, waited for at most `wait_seconds`; None while there is none."""
        if not self._is_busy:
            return None
        try:
            outcome = self._outcomes.get(timeout=wait_seconds) if wait_seconds > 0 else self._outcomes.get_nowait()
        except queue.Empty:
            return None
        self._is_busy = False
        return outcome

    def _serve(self) -> None:
        while True:
            question = self._questions.get()
            started = time.monotonic()
            try:
                reply = self._call(question)
            except Exception as failure:  # noqa: BLE001 - whatever a draft pod sends back must not end this thread
                self._outcomes.put(Failed(cause=f"{type(failure).__name__}: {failure}"))
            else:
                seconds = time.monotonic() - started
                self._outcomes.put(Answered(question=question, reply=reply, seconds=seconds))
