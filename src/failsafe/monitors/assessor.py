"""Asking a model without being held up by it: in a thread of its own, with a deadline."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from failsafe.models.contract import RecoveryModel, assess_safely
from failsafe.records.assessment import Assessment, Window


@dataclass
class _Question:
    """A window that is being looked at."""

    step: int
    asked: float
    assessment: Assessment | None = None


@dataclass(frozen=True)
class Reply:
    """What came of a question.

    Attributes:
        step: Control step at which it was asked.
        assessment: The answer, None if there is none in time.
        seconds: How long ago it was asked.
    """

    step: int
    assessment: Assessment | None
    seconds: float


class Assessor:
    """A model behind a deadline. One question at a time; a model that hangs is asked nothing more.

    Args:
        model: The model.
        deadline: Seconds after which an answer is of no use.
    """

    def __init__(self, model: RecoveryModel, deadline: float) -> None:
        self.model = model
        self._deadline = deadline
        self._pending: _Question | None = None
        self._done = threading.Condition()

    @property
    def busy(self) -> bool:
        """Whether the model is still at work on something."""
        return self._pending is not None and self._pending.assessment is None

    def ask(self, window: Window, step: int) -> None:
        """Put a question; the answer comes by `reply`. Needs a model that is not busy."""
        question = self._pending = _Question(step, time.monotonic())

        def work() -> None:
            assessment = assess_safely(self.model, window)
            with self._done:
                question.assessment = assessment
                self._done.notify_all()

        # A daemon: a model that never comes back must not keep the process from ending.
        threading.Thread(target=work, name="assess", daemon=True).start()

    def reply(self, wait: bool) -> Reply | None:
        """The answer to the last question.

        Args:
            wait: Wait for it, until the deadline at most.

        Returns:
            None while the model is at work and the deadline has not passed. A reply without a verdict, once,
            when it passes.
        """
        question = self._pending
        if question is None:
            return None
        if wait:
            with self._done:
                left = self._deadline - (time.monotonic() - question.asked)
                self._done.wait_for(lambda: question.assessment is not None, max(left, 0.0))
        seconds = time.monotonic() - question.asked
        if seconds > self._deadline and question.step >= 0:
            reply = Reply(question.step, None, seconds)
            question.step = -1  # said once; the thread may go on, and nobody listens
            if question.assessment is not None:
                self._pending = None
            return reply
        if question.assessment is None:
            return None
        self._pending = None
        return Reply(question.step, question.assessment, seconds) if question.step >= 0 else None

    def forget(self) -> None:
        """Another episode begins: whatever is still to come belongs to the last one."""
        if self._pending is None:
            return
        if self._pending.assessment is not None:
            self._pending = None
        else:
            self._pending.step = -1
