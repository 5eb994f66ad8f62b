"""Query a model in a thread of its own, with a deadline."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from failsafe.models.contract import RecoveryModel, assess_safely
from failsafe.records.assessment import Assessment, Window


@dataclass
class _Query:
    """A query in progress, or one whose answer has not been fetched."""

    step: int
    started: float
    assessment: Assessment | None = None
    discarded: bool = False


@dataclass(frozen=True)
class Answer:
    """The outcome of a query.

    Attributes:
        step: Control step of the query.
        assessment: The assessment, None if there is none within the deadline.
        seconds: Time since the query.
    """

    step: int
    assessment: Assessment | None
    seconds: float


class Assessor:
    """A model behind a deadline. It takes one query at a time, and none while the model hangs.

    Args:
        model: The recovery model.
        deadline: Seconds after which an answer is dropped.
    """

    def __init__(self, model: RecoveryModel, deadline: float) -> None:
        self.model = model
        self._deadline = deadline
        self._query: _Query | None = None
        self._done = threading.Condition()

    @property
    def busy(self) -> bool:
        """Whether the model is still computing an answer."""
        return self._query is not None and self._query.assessment is None

    def submit(self, window: Window, step: int) -> None:
        """Start a query; `answer` returns its outcome. The model must not be busy.

        Args:
            window: The window to assess.
            step: Control step at which the window ends.
        """
        query = self._query = _Query(step, time.monotonic())

        def work() -> None:
            assessment = assess_safely(self.model, window)
            with self._done:
                query.assessment = assessment
                self._done.notify_all()

        # A daemon thread, so that a model that hangs does not keep the process from ending.
        threading.Thread(target=work, name="assess", daemon=True).start()

    def answer(self, wait: bool) -> Answer | None:
        """Return the outcome of the last query, once.

        Args:
            wait: Whether to wait for it until the deadline.

        Returns:
            None if there is no query, or the model is computing and the deadline has not passed. An answer
            without an assessment when the deadline passes.
        """
        query = self._query
        if query is None:
            return None
        if wait:
            with self._done:
                left = self._deadline - (time.monotonic() - query.started)
                self._done.wait_for(lambda: query.assessment is not None, max(left, 0.0))
        seconds = time.monotonic() - query.started
        if seconds > self._deadline and not query.discarded:
            self.discard()
            return Answer(query.step, None, seconds)
        if query.assessment is None:
            return None
        self._query = None
        return None if query.discarded else Answer(query.step, query.assessment, seconds)

    def discard(self) -> None:
        """Drop the outcome of the last query; a model that is still computing stays busy."""
        if self._query is None:
            return
        if self._query.assessment is not None:
            self._query = None
        else:
            self._query.discarded = True
