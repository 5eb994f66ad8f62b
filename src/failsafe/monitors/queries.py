"""The queries of a monitor: the window that goes to the model, and the assessment that comes back."""

from __future__ import annotations

import time
from collections.abc import Callable

from failsafe.models.contract import RecoveryModel
from failsafe.monitors.assessor import Answer, Assessor
from failsafe.monitors.history import History
from failsafe.records.assessment import Assessment, Status
from failsafe.records.event import EventKind
from failsafe.records.observation import PolicyObservation
from failsafe.records.poses import Pose

Recorder = Callable[..., None]
"""Records an event at the present control step, from its kind and, as keywords, further fields of `Event`."""


class Queries:
    """Queries one model over an episode. A fault of the model is an event, and no assessment.

    Args:
        model: The recovery model.
        deadline: Seconds after which an answer is dropped.
        record: Called with every fault.

    Attributes:
        history: The last observations.
        assessor: The model behind its deadline.
        last_step: Control step of the last query; the monitor sets it when it hands back, too.
        tcp_pose: Tool pose at the last query, robot base frame; None before the first. [7]
        blocking_latency: Seconds spent waiting for answers in this episode.
    """

    def __init__(self, model: RecoveryModel, deadline: float, record: Recorder) -> None:
        self.history = History(model.window_spec)
        self.assessor = Assessor(model, deadline)
        self._deadline = deadline
        self._record = record
        self.reset("")

    def reset(self, instruction: str) -> None:
        """Start an episode.

        Args:
            instruction: The instruction of the episode.
        """
        self._instruction = instruction
        self.assessor.discard()
        self.history.clear()
        self.last_step = 0
        self.tcp_pose: Pose | None = None
        self.blocking_latency = 0.0

    def submit(self, step: int, observation: PolicyObservation) -> None:
        """Send the window that ends now to the model.

        Args:
            step: The present control step.
            observation: The last observation of the history.
        """
        self.last_step = step
        if self.assessor.busy:
            self._record(EventKind.FAULT, description="the model is still computing its last answer")
            return
        try:
            window = self.history.window(self._instruction)
        except Exception as error:  # a camera that fails must leave the policy in control
            self._record(EventKind.FAULT, description=f"no window: {type(error).__name__}: {error}")
            return
        self.tcp_pose = observation.tcp_pose
        self.assessor.submit(window, step)

    def assessment(self, wait: bool, step: int | None = None) -> Assessment | None:
        """Return the assessment of the last query, once; None if there is none that can be used.

        Args:
            wait: Whether to wait for it until the deadline.
            step: Ignore the answer to a query of any other control step.
        """
        start = time.perf_counter()
        answer = self.assessor.answer(wait=wait)
        self.blocking_latency += time.perf_counter() - start
        if answer is None or (step is not None and answer.step != step):
            return None
        return self._usable(answer)

    def _usable(self, answer: Answer) -> Assessment | None:
        assessment = answer.assessment
        if assessment is None:
            description = f"no answer within {self._deadline:g} s"
            self._record(EventKind.LATE, latency=answer.seconds, description=description)
            return None
        if assessment.status is not Status.OK:
            kind = EventKind.UNREADABLE if assessment.status is Status.UNREADABLE else EventKind.FAULT
            description = assessment.reason or assessment.raw[:200]
            self._record(kind, latency=assessment.latency, description=description)
            return None
        return assessment
