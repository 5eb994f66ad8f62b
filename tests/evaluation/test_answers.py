"""Asking a model: nothing it does wrong stops the table, and the log reads back as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.models.made_up import SPEC, sample, window

from failsafe.datasets.samples import Sample
from failsafe.errors import RecordError
from failsafe.evaluation.answers import Answer, Samples, ask, read_answers, write_answers
from failsafe.models.baselines import Oracle, never
from failsafe.records.assessment import Status, Verdict, Window, WindowSpec


class MadeUp:
    """Samples in memory."""

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples

    def window(self, index: int) -> Window:
        return window(name=self.samples[index].name)


class Stumbles:
    name = "stumbles"
    window_spec: WindowSpec = SPEC

    def assess(self, window: Window) -> Verdict:
        if window.name == "b":
            raise ZeroDivisionError("one over nothing")
        return Verdict(failure_probability=0.25)


def test_every_sample_that_is_asked_for_is_answered() -> None:
    made_up = MadeUp([sample("a"), sample("b", True), sample("c")])
    assert isinstance(made_up, Samples)
    heard: list[None] = []
    answers = ask(Stumbles(), made_up, [2, 1], lambda: heard.append(None))
    assert [a.sample.name for a in answers] == ["c", "b"]
    assert [a.verdict.status for a in answers] == [Status.OK, Status.REFUSED]
    assert "ZeroDivisionError: one over nothing" in answers[1].verdict.reason
    assert all(a.verdict.latency > 0 for a in answers)
    assert len(heard) == 2


def test_a_log_reads_back(tmp_path: Path) -> None:
    made_up = MadeUp([sample("a"), sample("b", True, recoverable=False, actions=())])
    answers = ask(Oracle(SPEC, {s.name: s for s in made_up.samples}), made_up, [0, 1])
    answers += ask(never(SPEC), made_up, [0])
    write_answers(tmp_path / "answers.jsonl", answers)
    assert read_answers(tmp_path / "answers.jsonl") == answers


def test_a_damaged_log_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write_answers(path, [Answer(sample("a"), Verdict())] * 2)
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(RecordError, match=r"answers\.jsonl, line 3: expected format 'Answer/1'"):
        read_answers(path)
    with pytest.raises(RecordError, match="expected a file of answers"):
        read_answers(tmp_path / "none.jsonl")
