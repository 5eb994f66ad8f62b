"""What a model answered to which sample: the log that every figure is made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from failsafe.datasets.files import write_atomically
from failsafe.errors import RecordError
from failsafe.models.contract import RecoveryModel, assess_safely
from failsafe.records import codec
from failsafe.records.assessment import Assessment, Window
from failsafe.samples.sample import Sample


@dataclass(frozen=True)
class Prediction:
    """A sample with its truth, and what a model made of its window."""

    sample: Sample
    assessment: Assessment


@runtime_checkable
class Samples(Protocol):
    """Samples and their windows: what is asked."""

    @property
    def samples(self) -> Sequence[Sample]:
        """All samples, in a fixed order."""
        ...

    def window(self, index: int) -> Window:
        """The window of a sample."""
        ...


def ask(
    model: RecoveryModel,
    samples: Samples,
    indices: Iterable[int],
    listen: Callable[[], None] | None = None,
) -> list[Prediction]:
    """Ask a model about samples, one window at a time, as a monitor would.

    Whatever the model does wrong becomes a verdict that counts as wrong; nothing is left out.

    Args:
        model: The model.
        samples: The samples and their windows.
        indices: Which of them.
        listen: Called after each answer.
    """
    predictions: list[Prediction] = []
    for index in indices:
        predictions.append(Prediction(samples.samples[index], assess_safely(model, samples.window(index))))
        if listen is not None:
            listen()
    return predictions


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write answers as lines of JSON.

    Raises:
        StoreError: If the file cannot be written.
    """
    write_atomically(path, "".join(codec.dumps(prediction) + "\n" for prediction in predictions).encode())


def read_predictions(path: Path) -> list[Prediction]:
    """Read what `write_predictions` wrote.

    Raises:
        RecordError: If the file is not there, or a line of it is not an answer.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"expected a file of answers, got {path}: {error}") from error
    where = f"{path}, line"
    return [codec.loads(Prediction, line, f"{where} {number}") for number, line in enumerate(lines, start=1)]
