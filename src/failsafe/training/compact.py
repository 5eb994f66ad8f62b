"""Train the compact network: one resumable loop, the same on a CPU and on a GPU."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from failsafe.datasets.files import write_atomically
from failsafe.errors import UserError
from failsafe.models.compact import save_compact
from failsafe.models.compact_net import CompactNet, Inputs
from failsafe.models.loading import fingerprint
from failsafe.records import codec
from failsafe.samples.sample_set import SampleSet
from failsafe.training.allocation import keep_freed_memory
from failsafe.training.batches import Batches
from failsafe.training.compact_config import CompactTraining, TrainingReport, is_best, is_finished
from failsafe.training.compact_loss import compact_loss
from failsafe.training.compact_setup import describe, load_localizer, network_config, training_rows
from failsafe.training.optimization import Optimization
from failsafe.training.targets import Targets
from failsafe.training.validation import evaluate, to_device, validation_batches

CHECKPOINT, STATE, LOG = "compact.safetensors", "state.pt", "log.jsonl"


def train_compact(
    samples: SampleSet, settings: CompactTraining, out: Path, callback: Callable[[TrainingReport], None]
) -> Path:
    """Train on the train split and keep the averaged weights with the lowest validation loss.

    Training ends when the validation loss has not improved for `patience` validations, or after `steps`
    steps. Without validation samples (`validation_batches`) it takes all steps, and the last weights are
    kept.

    An interrupted training resumes after its last validation when it is called again.

    Args:
        samples: The samples.
        settings: Hyperparameters.
        out: Folder of the run.
        callback: Called after every validation.

    Returns:
        The checkpoint.

    Raises:
        UserError: If there are too few samples, a kept localizer does not fit them, or the folder holds
            another run.
    """
    kept = load_localizer(settings.localizer, samples) if settings.localizer else None
    rows, image_free = training_rows(samples, settings, kept)
    config = network_config(samples, [*rows, *image_free], settings, kept)
    rows += [] if settings.proprioception_only or kept else samples.exploration
    used = [*rows, *image_free]
    torch.manual_seed(settings.seed)
    keep_freed_memory()
    if "OMP_NUM_THREADS" not in os.environ:  # PyTorch uses half of the logical cores by default
        torch.set_num_threads(os.cpu_count() or 1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = CompactNet(config).to(device)
    if kept:
        cast(nn.Module, net.localizer).load_state_dict(cast(nn.Module, kept.net.localizer).state_dict())
    cast(Any, net).to(memory_format=torch.channels_last)
    train = Batches(samples, rows, config) if rows else None
    given = Batches(samples, image_free, config, images=False) if image_free else None
    validation = validation_batches(samples, config)
    rounds = settings.rounds if train and given else 0
    total = settings.steps * (1 + rounds)
    optimization = Optimization(net, settings.rate, settings.decay, settings.average, total)
    names = "\n".join(samples.samples[i].name for i in used)
    sources = hashlib.sha256(names.encode()).hexdigest() + (fingerprint(settings.localizer) if kept else "")
    identity = codec.dumps(settings) + codec.dumps(config) + sources
    reports = _resume(out, identity, *optimization.parts)

    def learn(batch: tuple[Inputs, Targets]) -> float:
        return optimization.step(compact_loss(net, *to_device(batch, device)))

    def step(number: int) -> float:
        # All randomness follows from the number of the step, so that a resumed run draws the same.
        rng = np.random.default_rng([settings.seed, 1, number])
        torch.manual_seed(settings.seed * 1_000_003 + number)
        if train is None:
            return learn(cast(Batches, given).draw(settings.image_free_batch, rng))
        loss = learn(train.step(number, settings.batch, settings.seed, rng))
        for _ in range(rounds):
            learn(cast(Batches, given).draw(settings.image_free_batch, rng))
        return loss

    while not is_finished(reports, settings):
        first, before = (reports[-1].step, reports[-1].seconds) if reports else (0, 0.0)
        last = min(first + settings.validate_every, settings.steps)
        begun = time.monotonic()
        net.train()
        loss = sum(step(number) for number in range(first, last)) / (last - first)
        averaged = optimization.averaged
        scores = evaluate(averaged, validation, device) if validation else {}
        seconds = round(before + time.monotonic() - begun, 1)
        report = TrainingReport(last, settings.steps, seconds, loss, scores, is_best(reports, scores))
        reports.append(report)
        if report.best:
            save_compact(out / CHECKPOINT, averaged, describe(samples, used, config, settings, report, kept))
        lines = [codec.dumps(line) for line in reports]
        write_atomically(out / LOG, "".join(f"{line}\n" for line in lines).encode())
        # Last: a resumed run needs everything that was written before its state.
        _save_state(out / STATE, identity, lines, *optimization.parts)
        callback(report)
    return out / CHECKPOINT


def best_report(out: Path) -> TrainingReport:
    """Return the report of the checkpoint of a run.

    Args:
        out: Folder of the run.

    Raises:
        RecordError: If its log is damaged.
    """
    reports = [
        codec.loads(TrainingReport, line, str(out / LOG))
        for line in (out / LOG).read_text(encoding="utf-8").splitlines()
    ]
    return next(report for report in reversed(reports) if report.best)


def _save_state(path: Path, identity: str, lines: list[str], *parts: Any) -> None:
    buffer = io.BytesIO()
    states = [part.state_dict() for part in parts]
    torch.save({"identity": identity, "reports": lines, "states": states}, buffer)
    write_atomically(path, buffer.getvalue())


def _resume(out: Path, identity: str, *parts: Any) -> list[TrainingReport]:
    """Load the state of an interrupted run, if there is one, and return its reports so far."""
    if not (path := out / STATE).exists():
        return []
    state = torch.load(path, weights_only=True)
    if state["identity"] != identity:
        raise UserError(f"{out} holds a run with other settings or samples; choose another folder")
    for part, values in zip(parts, state["states"], strict=True):
        part.load_state_dict(values)
    return [codec.loads(TrainingReport, line, str(path)) for line in state["reports"]]
