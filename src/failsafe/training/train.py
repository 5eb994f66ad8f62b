"""Train a recovery model of either kind on folders of samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from failsafe.errors import UserError
from failsafe.models.loading import COMPACT
from failsafe.samples.sample_set import SampleSet
from failsafe.training.compact_config import CompactTraining, TrainingReport
from failsafe.training.llava_config import LlavaTrainConfig

if TYPE_CHECKING:
    from failsafe.training.budget import DryRun


@dataclass(frozen=True)
class TrainedModel:
    """Result of a training.

    Attributes:
        checkpoint: The checkpoint: a file of the compact model, a folder of a LLaVA-OneVision.
        report: State of the training at the weights of a compact model.
    """

    checkpoint: Path
    report: TrainingReport | None = None


def training_config(model: str = COMPACT, **settings: Any) -> CompactTraining | LlavaTrainConfig:
    """Return how a model is trained: its defaults with some settings.

    Args:
        model: "compact", or the name or folder of a LLaVA-OneVision.
        settings: Fields of `CompactTraining` or `LlavaTrainConfig`; None keeps the default. For both,
            `rate` is the highest learning rate and `batch` the number of samples in a step.

    Raises:
        UserError: If a setting is one of the other kind of model, or a value is out of range.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if model != COMPACT and "rate" in given:
        given["learning_rate"] = given.pop("rate")
    kind, other = (
        (CompactTraining, "LLaVA-OneVision") if model == COMPACT else (LlavaTrainConfig, "the compact model")
    )
    if wrong := sorted(given.keys() - {field.name for field in fields(kind)}):
        are = "is a setting" if len(wrong) == 1 else "are settings"
        raise UserError(f"{' and '.join(wrong)} {are} of {other}, but the model to train is {model}")
    if model != COMPACT:
        return LlavaTrainConfig(model, **given)
    config = CompactTraining(**given)
    # A kept localizer leaves image-free samples only.
    return (
        replace(config, image_free_batch=given["batch"]) if config.localizer and "batch" in given else config
    )


def train_model(
    data: Sequence[Path],
    out: Path,
    config: CompactTraining | LlavaTrainConfig,
    callback: Callable[[str], None] = lambda line: None,
    resume: str = "",
) -> TrainedModel:
    """Train a recovery model; interrupted at any time, the same call resumes.

    Args:
        data: Folders of samples.
        out: Folder of the run and its checkpoint.
        config: How to train, see `training_config`.
        callback: Called with lines of progress.
        resume: LLaVA-OneVision: name of a checkpoint of the run to resume from, in place of the last.

    Raises:
        UserError: If there are too few samples, or the folder holds another run.
    """
    # Imported only now: whoever trains one kind of model need not have what the other kind needs.
    if isinstance(config, CompactTraining):
        from failsafe.training.compact import best_report, train_compact

        if resume:
            raise UserError(
                "expected no checkpoint to resume from for the compact model: it resumes by itself"
            )
        samples = SampleSet(*data)
        _check_robots(samples)
        checkpoint = train_compact(samples, config, out, lambda report: callback(report.describe()))
        return TrainedModel(checkpoint, best_report(out))
    from failsafe.training.llava import train_llava

    samples = SampleSet(*data)
    _check_robots(samples)
    train_llava(samples, config, out, callback, resume)
    return TrainedModel(out)


def plan_training(
    data: Sequence[Path], config: CompactTraining | LlavaTrainConfig, strategy: str = "none", gpus: int = 1
) -> DryRun:
    """Return what a training of LLaVA-OneVision costs, without starting it.

    Args:
        data: Folders of samples.
        config: How to train, see `training_config`.
        strategy: How it is spread over GPUs, one of `failsafe.training.budget.STRATEGIES`.
        gpus: Number of GPUs.

    Raises:
        UserError: If the model is the compact one, which trains in minutes on a CPU.
    """
    if isinstance(config, CompactTraining):
        raise UserError("expected a LLaVA-OneVision to plan the training of, got the compact model")
    from failsafe.training.budget import dry_run

    samples = SampleSet(*data)
    _check_robots(samples)
    return dry_run(samples, config, strategy, gpus)


def _check_robots(samples: SampleSet) -> None:
    """Check, before anything is loaded or written, that one model can be trained on the samples.

    Raises:
        UserError: If they are of robots with different control rates or step limits.
    """
    _ = samples.embodiment
