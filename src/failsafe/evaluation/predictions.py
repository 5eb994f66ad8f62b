"""Predictions of a model on samples: the log that all offline metrics are computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from failsafe.datasets.files import write_atomically
from failsafe.models.contract import RecoveryModel, assess_safely
from failsafe.records import codec
from failsafe.records.assessment import Assessment, Window
from failsafe.records.files import read_text
from failsafe.samples.sample import Sample


@dataclass(frozen=True)
class Prediction:
    """A sample and a model's assessment of its window.

    Attributes:
        sample: The sample, with its ground truth.
        assessment: The assessment.
    """

    sample: Sample
    assessment: Assessment


@runtime_checkable
class Samples(Protocol):
    """Samples and their windows."""

    @property
    def samples(self) -> Sequence[Sample]:
        """All samples, in a fixed order."""
        ...

    def window(self, index: int) -> Window:
        """Return the window of a sample."""
        ...


def ask(
    model: RecoveryModel,
    samples: Samples,
    indices: Iterable[int],
    on_answer: Callable[[], None] | None = None,
) -> list[Prediction]:
    """Query a model about samples, one window at a time, as a monitor does.

    An exception or an unusable answer becomes an assessment that counts as wrong.

    Args:
        model: The model.
        samples: The samples and their windows.
        indices: Numbers of the samples to query.
        on_answer: Called after each answer.

    Returns:
        One prediction per index.
    """
    predictions: list[Prediction] = []
    for index in indices:
        predictions.append(Prediction(samples.samples[index], assess_safely(model, samples.window(index))))
        if on_answer is not None:
            on_answer()
    return predictions


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write predictions as lines of JSON.

    Args:
        path: The file.
        predictions: The predictions.

    Raises:
        StoreError: If the file cannot be written.
    """
    write_atomically(path, "".join(codec.dumps(prediction) + "\n" for prediction in predictions).encode())


def read_predictions(path: Path) -> list[Prediction]:
    """Read what `write_predictions` wrote.

    Raises:
        UserError: If there is no such file.
        RecordError: If it cannot be read, or a line is not a prediction.
    """
    lines = read_text(path, f"expected a file of predictions, got {path}, which does not exist").splitlines()
    where = f"{path}, line"
    return [codec.loads(Prediction, line, f"{where} {number}") for number, line in enumerate(lines, start=1)]
