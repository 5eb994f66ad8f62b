"""Asking a model: nothing it does wrong stops the table, and the log reads back as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.models.made_up import SPEC, sample, window

from failsafe.errors import RecordError, UserError
from failsafe.evaluation.predictions import Prediction, Samples, ask, read_predictions, write_predictions
from failsafe.models.baselines import Oracle, never
from failsafe.records.assessment import Assessment, Status, Window, WindowSpec
from failsafe.samples.sample import Sample


class MadeUp:
    """Samples in memory."""

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples

    def window(self, index: int) -> Window:
        return window(name=self.samples[index].name)


class Stumbles:
    name = "stumbles"
    window_spec: WindowSpec = SPEC

    def assess(self, window: Window) -> Assessment:
        if window.name == "b":
            raise ZeroDivisionError("one over nothing")
        return Assessment(failure_probability=0.25)


def test_every_sample_that_is_asked_for_is_answered() -> None:
    made_up = MadeUp([sample("a"), sample("b", True), sample("c")])
    assert isinstance(made_up, Samples)
    calls: list[None] = []
    predictions = ask(Stumbles(), made_up, [2, 1], lambda: calls.append(None))
    assert [a.sample.name for a in predictions] == ["c", "b"]
    assert [a.assessment.status for a in predictions] == [Status.OK, Status.REFUSED]
    assert "ZeroDivisionError: one over nothing" in predictions[1].assessment.reason
    assert all(a.assessment.latency > 0 for a in predictions)
    assert len(calls) == 2


def test_a_log_reads_back(tmp_path: Path) -> None:
    made_up = MadeUp([sample("a"), sample("b", True, recoverable=False, actions=())])
    predictions = ask(Oracle(SPEC, {s.name: s for s in made_up.samples}), made_up, [0, 1])
    predictions += ask(never(SPEC), made_up, [0])
    write_predictions(tmp_path / "answers.jsonl", predictions)
    assert read_predictions(tmp_path / "answers.jsonl") == predictions


def test_a_damaged_log_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write_predictions(path, [Prediction(sample("a"), Assessment())] * 2)
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(RecordError, match=r"answers\.jsonl, line 3: expected format 'Prediction/1'"):
        read_predictions(path)
    with pytest.raises(UserError, match="expected a file of predictions"):
        read_predictions(tmp_path / "none.jsonl")
