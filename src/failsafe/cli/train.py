"""`failsafe train`: from samples to a checkpoint."""

from __future__ import annotations

from pathlib import Path

import tyro

from failsafe.cli.output import print_json
from failsafe.datasets.windows import SampleSet
from failsafe.errors import UserError
from failsafe.records import codec

COMPACT = "compact"


def train(
    data: tyro.conf.Positional[tuple[Path, ...]],
    /,
    out: Path,
    model: str = COMPACT,
    epochs: int | None = None,
    batch: int | None = None,
    rate: float | None = None,
    seed: int = 0,
    blind: bool = False,
    json: bool = False,
) -> int:
    """Train a recovery model on samples.

    Interrupted at any moment, the same command goes on after the last epoch that was finished.

    Args:
        data: Folders of samples, made by `failsafe samples`.
        out: Folder of the run; the checkpoint is in it.
        model: "compact", or the name or folder of a LLaVA-OneVision.
        epochs: Passes over the training samples.
        batch: Samples in a step.
        rate: Highest learning rate.
        seed: Seed of everything that is drawn.
        blind: Look at no pictures: shows what the proprioception alone gives away.
        json: Print the result as JSON.
    """
    if not data:
        raise UserError("expected at least one folder made by `failsafe samples`, got none")
    samples = SampleSet(*data)
    from failsafe.training.compact import CompactTraining, EpochReport, train_compact

    given = {"epochs": epochs, "batch": batch, "rate": rate}
    settings = CompactTraining(seed=seed, blind=blind, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
    last: list[EpochReport] = []

    def tell(report: EpochReport) -> None:
        last[:] = [report]
        if not json:
            seen = ", ".join(f"{name} {value:.3f}" for name, value in report.validation.items())
            print(
                f"epoch {report.epoch}/{report.epochs} after {report.seconds:.0f} s: loss {report.loss:.3f}; "
                f"validation: {seen}",
                flush=True,
            )

    checkpoint = train_compact(samples, settings, out, tell)
    if json:
        print_json({"checkpoint": str(checkpoint), "report": codec.to_plain(last[0]) if last else None})
    else:
        print(f"checkpoint: {checkpoint}")
    return 0
