"""Train the compact network: one resumable loop, the same on a CPU and on a GPU."""

from __future__ import annotations

import hashlib
import io
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from failsafe.datasets.files import write_atomically
from failsafe.errors import UserError
from failsafe.models.compact import save_compact
from failsafe.models.compact_net import CompactConfig, CompactNet, Inputs, Outputs
from failsafe.models.loading import fingerprint
from failsafe.records import codec
from failsafe.samples.sample_set import SampleSet
from failsafe.training.allocation import keep_freed_memory
from failsafe.training.batches import Batches
from failsafe.training.compact_config import CompactTraining, EpochReport
from failsafe.training.compact_loss import compact_loss
from failsafe.training.compact_setup import describe, load_localizer, network_config, training_rows
from failsafe.training.optimization import Optimization
from failsafe.training.targets import Targets

CHECKPOINT, STATE, LOG = "compact.safetensors", "state.pt", "log.jsonl"


def train_compact(
    samples: SampleSet, settings: CompactTraining, out: Path, callback: Callable[[EpochReport], None]
) -> Path:
    """Train on the train split and keep the averaged weights of the last epoch.

    The validation split is evaluated after every epoch.

    An interrupted training resumes after its last finished epoch when it is called again.

    Args:
        samples: The samples.
        settings: Hyperparameters.
        out: Folder of the run.
        callback: Called after every epoch.

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
    validation = _validation(samples, config)
    steps = len(train) // settings.batch if train else len(image_free) // settings.image_free_batch
    rounds = settings.rounds if train and given else 0
    total = settings.epochs * steps * (1 + rounds)
    optimization = Optimization(net, settings.rate, settings.decay, settings.average, total)
    names = "\n".join(samples.samples[i].name for i in used)
    sources = hashlib.sha256(names.encode()).hexdigest() + (fingerprint(settings.localizer) if kept else "")
    identity = codec.dumps(settings) + codec.dumps(config) + sources
    first, seconds = _resume(out / STATE, identity, *optimization.parts)

    def learn(batch: tuple[Inputs, Targets]) -> float:
        return optimization.step(compact_loss(net, *_to(batch, device)))

    for epoch in range(first, settings.epochs):
        begun, losses = time.monotonic(), 0.0
        rng = np.random.default_rng([settings.seed, epoch])
        torch.manual_seed(settings.seed * 1_000_003 + epoch)
        net.train()
        for _ in range(steps if train is None else 0):
            losses += learn(cast(Batches, given).draw(settings.image_free_batch, rng))
        for batch in train.epoch(settings.batch, rng) if train else ():
            losses += learn(batch)
            for _ in range(rounds):
                learn(cast(Batches, given).draw(settings.image_free_batch, rng))
        averaged = optimization.averaged
        scores = evaluate(averaged, validation, device) if validation else {}
        seconds += time.monotonic() - begun
        report = EpochReport(epoch + 1, settings.epochs, round(seconds, 1), losses / steps, scores)
        save_compact(out / CHECKPOINT, averaged, describe(samples, used, config, settings, report, kept))
        log = (out / LOG).read_text(encoding="utf-8").splitlines()[:epoch] if epoch else []
        write_atomically(out / LOG, "".join(f"{line}\n" for line in [*log, codec.dumps(report)]).encode())
        # Last: a resumed run needs everything that was written before its state.
        _save_state(out / STATE, identity, epoch + 1, seconds, *optimization.parts)
        callback(report)
    return out / CHECKPOINT


def evaluate(net: nn.Module, batches: Batches, device: torch.device) -> dict[str, float]:
    """Score a network.

    Args:
        net: The network.
        batches: Windows to score it on.
        device: Where the network is.

    Returns:
        "balanced": balanced accuracy of the failure detection; "mode", "stage": accuracies; "cosine": cosine
        similarity of the correction; "mm": mean error of the object positions per axis, millimetres. Scores
        without any sample are left out.
    """
    net.eval()
    parts: dict[str, list[Tensor]] = {name: [] for name in ("bad", "good", "mode", "stage", "cosine", "mm")}
    with torch.inference_mode():
        for inputs, truth in batches.all(128):
            out: Outputs = net(_to((inputs, truth), device)[0])
            predicted, failing = (out.failing > 0).cpu(), truth.failing > 0.5
            parts["bad"].append(predicted[failing])
            parts["good"].append(~predicted[~failing])
            named = truth.mode_weight > 0
            parts["mode"].append((out.mode.argmax(1).cpu() == truth.mode)[named])
            parts["stage"].append((out.stage.argmax(1).cpu() == truth.stage)[truth.stage_weight > 0])
            corrected = truth.correction_weight > 0
            a, b = (t[corrected][:, -8:-2] for t in (out.correction.cpu(), truth.correction))
            parts["cosine"].append(F.cosine_similarity(a, b, dim=1))
            parts["mm"].append((out.objects.cpu() - truth.objects)[truth.objects != 0].abs() * 100.0)
    mean = {name: float(torch.cat(values).float().mean()) for name, values in parts.items()}
    mean["balanced"] = (mean.pop("bad") + mean.pop("good")) / 2
    return {name: round(value, 4) for name, value in mean.items() if math.isfinite(value)}


def _validation(samples: SampleSet, config: CompactConfig) -> Batches | None:
    """Return the validation split: with images if there are any, else image-free."""
    for images in (True, False):
        if rows := samples.indices("validation", images=images):
            return Batches(samples, rows, config, images=images)
    return None


def _to(batch: tuple[Inputs, Targets], device: torch.device) -> tuple[Inputs, Targets]:
    inputs, truth = batch
    given = None if inputs.objects is None else inputs.objects.to(device)
    moved = Inputs(inputs.frames.to(device), inputs.motion.to(device), inputs.words.to(device), given)
    return moved, Targets(**{name: tensor.to(device) for name, tensor in vars(truth).items()})


def _save_state(path: Path, identity: str, epoch: int, seconds: float, *parts: Any) -> None:
    buffer = io.BytesIO()
    states = [part.state_dict() for part in parts]
    torch.save({"identity": identity, "epoch": epoch, "seconds": seconds, "states": states}, buffer)
    write_atomically(path, buffer.getvalue())


def _resume(path: Path, identity: str, *parts: Any) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    if state["identity"] != identity:
        raise UserError(f"{path.parent} holds a run with other settings or samples; choose another folder")
    for part, values in zip(parts, state["states"], strict=True):
        part.load_state_dict(values)
    return int(state["epoch"]), float(state["seconds"])
