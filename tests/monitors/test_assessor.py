"""A model behind a deadline: each answer is returned once, and a model that hangs blocks once."""

import math
import threading
import time

import numpy as np
import pytest
from tests.monitors.scripted import PATIENCE, SPEC, BlockingModel, ScriptedModel, failing

from failsafe.monitors.assessor import Assessor
from failsafe.records.assessment import Assessment, Status, Window

SHORT = 0.1
WINDOW = Window(
    "lift",
    SPEC,
    np.zeros((2, 3, 8, 8, 3), dtype=np.uint8),
    np.tile(np.array([0.5, 0, 0.3, 0, 1, 0, 0], dtype=np.float32), (5, 1)),
    np.full(5, 0.08, dtype=np.float32),
)
ODD = (0.0, 0.0, math.nan, 0.0, 0.0, 0.0, 1.0)


def until_idle(assessor):
    end = time.monotonic() + PATIENCE
    while assessor.busy:
        assert time.monotonic() < end
        time.sleep(0.002)


def overdue(*answers):
    """Return an assessor whose model was queried at step 7 and missed the deadline, and the late answer."""
    model = BlockingModel(*answers)
    assessor = Assessor(model, SHORT)
    assessor.submit(WINDOW, 7)
    begun = time.monotonic()
    late = assessor.answer(wait=True)
    assert time.monotonic() - begun < PATIENCE / 2
    return assessor, model, late


def test_it_answers_once():
    assessor = Assessor(ScriptedModel(failing(0.8)), PATIENCE)
    assert assessor.answer(wait=True) is None
    assessor.submit(WINDOW, 7)
    reply = assessor.answer(wait=True)
    assert (reply.step, reply.assessment.failure_probability) == (7, 0.8)
    assert 0 <= reply.assessment.latency <= reply.seconds < PATIENCE
    assert not assessor.busy
    assert assessor.answer(wait=True) is None


def test_the_caller_need_not_wait():
    model = BlockingModel(failing())
    assessor = Assessor(model, PATIENCE)
    assessor.submit(WINDOW, 7)
    assert model.at_work.wait(PATIENCE)
    begun = time.monotonic()
    assert assessor.answer(wait=False) is None
    assert time.monotonic() - begun < PATIENCE / 2
    assert assessor.busy
    model.go_on.set()
    until_idle(assessor)
    assert assessor.answer(wait=False).assessment.mode == "slip"


def test_a_missed_deadline_is_reported_once_and_blocks_once():
    assessor, model, late = overdue(failing())
    assert (late.step, late.assessment) == (7, None)
    assert late.seconds >= SHORT
    assert assessor.busy
    begun = time.monotonic()
    assert [assessor.answer(wait=True) for _ in range(20)] == [None] * 20
    assert time.monotonic() - begun < 20 * SHORT
    model.go_on.set()


def test_a_late_answer_is_dropped_and_the_next_is_not():
    assessor, model, _ = overdue(failing(0.7), failing(0.8))
    model.go_on.set()
    until_idle(assessor)
    assert assessor.answer(wait=True) is None
    assessor._deadline = PATIENCE
    assessor.submit(WINDOW, 12)
    reply = assessor.answer(wait=True)
    assert (reply.step, reply.assessment.failure_probability) == (12, 0.8)


def test_an_answer_fetched_after_its_deadline_is_dropped():
    assessor = Assessor(ScriptedModel(failing()), SHORT)
    assessor.submit(WINDOW, 7)
    until_idle(assessor)
    time.sleep(2 * SHORT)
    reply = assessor.answer(wait=False)
    assert (reply.step, reply.assessment) == (7, None)
    assert assessor.answer(wait=False) is None


def test_a_discarded_answer_is_dropped():
    model = BlockingModel(failing(0.7), failing(0.8))
    assessor = Assessor(model, PATIENCE)
    assessor.discard()
    assessor.submit(WINDOW, 7)
    assert model.at_work.wait(PATIENCE)
    assessor.discard()
    assert assessor.busy, "the model is still computing"
    model.go_on.set()
    until_idle(assessor)
    assert assessor.answer(wait=True) is None
    assessor.submit(WINDOW, 1)
    until_idle(assessor)
    assessor.discard()
    assert assessor.answer(wait=True) is None


def test_a_hanging_model_does_not_keep_the_process_from_ending():
    assessor, model, _ = overdue(failing())
    (thread,) = [t for t in threading.enumerate() if t.name == "assess" and t.is_alive()]
    assert thread.daemon
    model.go_on.set()
    until_idle(assessor)


@pytest.mark.parametrize(
    ("answer", "description"),
    [
        (RuntimeError("out of memory"), "RuntimeError: out of memory"),
        (None, "expected an Assessment, got NoneType"),
        ("failing", "expected an Assessment, got str"),
        (failing(math.nan), "from 0 to 1, got nan"),
        (failing(actions=(ODD,)), "7 finite numbers"),
        (failing(continuation=(ODD,)), "7 finite numbers"),
        (failing(actions=((0.0, 0.0, 0.0, 1e200, 0.0, 0.0, 1.0),)), "7 finite numbers"),
    ],
)
def test_a_fault_of_a_model_is_a_refusal(answer, description):
    assessor = Assessor(ScriptedModel(answer), PATIENCE)
    assessor.submit(WINDOW, 7)
    assessment = assessor.answer(wait=True).assessment
    assert assessment.status is Status.REFUSED
    assert description in assessment.reason
    assert assessment.actions == ()


def test_strings_for_numbers_are_a_refusal():
    odd = failing()
    object.__setattr__(odd, "actions", (("up",) * 7,))
    assessor = Assessor(ScriptedModel(odd), PATIENCE)
    assessor.submit(WINDOW, 7)
    assert assessor.answer(wait=True).assessment.status is Status.REFUSED


def test_an_unreadable_answer_stays_unreadable():
    assessor = Assessor(ScriptedModel(Assessment(status=Status.UNREADABLE, raw="I think")), PATIENCE)
    assessor.submit(WINDOW, 7)
    assessment = assessor.answer(wait=True).assessment
    assert (assessment.status, assessment.raw) == (Status.UNREADABLE, "I think")
