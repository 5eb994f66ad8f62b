"""Train the compact network: one readable loop, resumable, the same on a CPU and a GPU."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from failsafe.datasets.files import write_atomically
from failsafe.errors import UserError
from failsafe.models.compact import (
    CompactConfig,
    CompactMeta,
    CompactModel,
    CompactNet,
    Inputs,
    Outputs,
    save_compact,
)
from failsafe.models.loading import fingerprint, load_model
from failsafe.models.object_localizer import POSE, CameraIntrinsics
from failsafe.perturbations import MODES
from failsafe.records import codec
from failsafe.records.assessment import WindowSpec
from failsafe.records.provenance import collect_provenance, command_line
from failsafe.samples.sample_set import SampleSet
from failsafe.training.allocation import keep_freed_memory
from failsafe.training.augmentation import elsewhere
from failsafe.training.batches import Batches, Targets
from failsafe.training.descent import Descent
from failsafe.training.keypoints import sight_loss

CHECKPOINT, STATE, LOG = "compact.safetensors", "state.pt", "log.jsonl"
_OF_EYES = "eyes, "
"""How what is said of the training of eyes that are kept begins."""


@dataclass(frozen=True)
class CompactTraining:
    """How the compact network is trained.

    Attributes:
        epochs: Passes over the training samples.
        batch: Samples with pictures in a step.
        unseen: Samples without pictures in a step, if there are any.
        rounds: Steps without pictures after every one with pictures.
        rate: Highest learning rate.
        decay: Weight decay.
        average: Share of the running average of the weights kept at every step.
        widths: Channels of the encoder, from stride 2 to stride 16.
        hidden: Width of the trunk.
        blind: Train on proprioception and instruction alone, to see what they give away.
        eyes: A checkpoint whose finder is kept as it is: only what judges is trained, from windows without
            pictures; empty to train both.
        seed: Seed of everything that is drawn.
    """

    epochs: int = 5
    batch: int = 96
    unseen: int = 1024
    rounds: int = 2
    rate: float = 2e-3
    decay: float = 0.05
    average: float = 0.999
    widths: tuple[int, ...] = (32, 48, 96, 160)
    hidden: int = 1024
    blind: bool = False
    eyes: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for name in ("epochs", "batch", "unseen", "rounds", "hidden"):
            if (got := getattr(self, name)) < 1:
                raise UserError(f"expected {name} of at least 1, got {got}")
        if not 0 < self.rate < math.inf:
            raise UserError(f"expected a learning rate above 0, got {self.rate}")
        if self.blind and self.eyes:
            raise UserError("expected --blind or --eyes, got both")


@dataclass(frozen=True)
class EpochReport:
    """What an epoch came to.

    Attributes:
        epoch: Its number, from 1.
        epochs: How many there will be.
        seconds: Seconds since the training began, earlier runs included.
        loss: Mean training loss.
        validation: Balanced accuracy and the like on the validation split, by name.
    """

    epoch: int
    epochs: int
    seconds: float
    loss: float
    validation: dict[str, float] = field(default_factory=dict[str, float])


def train_compact(
    samples: SampleSet, settings: CompactTraining, out: Path, tell: Callable[[EpochReport], None]
) -> Path:
    """Train on the train split, watch the validation split, keep the averaged weights of the last epoch.

    Interrupted at any moment, the same call goes on after the last epoch that was finished.

    Args:
        samples: The samples.
        settings: How.
        out: Folder of the run.
        tell: Called after every epoch.

    Returns:
        The checkpoint.

    Raises:
        UserError: If there is nothing to train on, or the folder is of another run.
    """
    train_rows, unseen_rows = samples.indices("train"), samples.indices("train", images=False)
    eyes = _eyes(settings.eyes, samples.spec) if settings.eyes else None
    if eyes:
        train_rows = []
    # Whoever does not look, or need not learn to, learns from windows without pictures alone.
    alone = eyes is not None or (settings.blind and not train_rows)
    least, without = (settings.unseen, "without") if alone else (settings.batch, "with")
    if len(rows := unseen_rows if alone else train_rows) < least:
        raise UserError(
            f"expected at least {least} samples {without} pictures to train on, got {len(rows)} in "
            f"{', '.join(map(str, samples.paths))}"
        )
    config = _config(samples, [*train_rows, *unseen_rows], settings, eyes)
    train_rows += [] if settings.blind or eyes else samples.exploration
    used = [*train_rows, *unseen_rows]
    torch.manual_seed(settings.seed)
    keep_freed_memory()
    if "OMP_NUM_THREADS" not in os.environ:  # by default torch leaves every second logical core alone
        torch.set_num_threads(os.cpu_count() or 1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = CompactNet(config).to(device)
    if eyes:
        cast(nn.Module, net.finder).load_state_dict(cast(nn.Module, eyes.net.finder).state_dict())
    cast(Any, net).to(memory_format=torch.channels_last)
    train = Batches(samples, train_rows, config) if train_rows else None
    unseen = Batches(samples, unseen_rows, config, pictures=False) if unseen_rows else None
    validation = _validation(samples, config)
    steps = len(train) // settings.batch if train else len(unseen_rows) // settings.unseen
    rounds = settings.rounds if train and unseen else 0
    total = settings.epochs * steps * (1 + rounds)
    descent = Descent(net, settings.rate, settings.decay, settings.average, total)
    names = "\n".join(samples.samples[i].name for i in used)
    made_of = hashlib.sha256(names.encode()).hexdigest() + (fingerprint(settings.eyes) if eyes else "")
    identity = codec.dumps(settings) + codec.dumps(config) + made_of
    first, seconds = _resume(out / STATE, identity, *descent.parts)

    def learn(batch: tuple[Inputs, Targets]) -> float:
        return descent.step(_loss(net, *_to(batch, device)))

    for epoch in range(first, settings.epochs):
        begun, losses = time.monotonic(), 0.0
        rng = np.random.default_rng([settings.seed, epoch])
        torch.manual_seed(settings.seed * 1_000_003 + epoch)
        net.train()
        for _ in range(steps if train is None else 0):
            losses += learn(cast(Batches, unseen).draw(settings.unseen, rng))
        for seen in train.epoch(settings.batch, rng) if train else ():
            losses += learn(seen)
            for _ in range(rounds):
                learn(cast(Batches, unseen).draw(settings.unseen, rng))
        smooth = descent.smooth
        scores = evaluate(smooth, validation, device) if validation else {}
        seconds += time.monotonic() - begun
        report = EpochReport(epoch + 1, settings.epochs, round(seconds, 1), losses / steps, scores)
        save_compact(out / CHECKPOINT, smooth, _meta(samples, used, config, settings, report, eyes))
        log = (out / LOG).read_text().splitlines()[:epoch] if epoch else []
        write_atomically(out / LOG, "".join(f"{line}\n" for line in [*log, codec.dumps(report)]).encode())
        # Last of all: what a resumed run goes on from must have all that came before it.
        _save_state(out / STATE, identity, epoch + 1, seconds, *descent.parts)
        tell(report)
    return out / CHECKPOINT


def evaluate(net: nn.Module, batches: Batches, device: torch.device) -> dict[str, float]:
    """How right a network is about some windows.

    Returns:
        Balanced accuracy of failing or not, accuracy of kind and stage, cosine of the correction, and by how
        much objects are found beside where they are, millimetres an axis.
    """
    net.eval()
    right: dict[str, list[Tensor]] = {name: [] for name in ("bad", "good", "mode", "stage", "cosine", "mm")}
    with torch.inference_mode():
        for inputs, truth in batches.all(128):
            out: Outputs = net(_to((inputs, truth), device)[0])
            said, true = (out.failing > 0).cpu(), truth.failing > 0.5
            right["bad"].append(said[true])
            right["good"].append(~said[~true])
            named = truth.mode_weight > 0
            right["mode"].append((out.mode.argmax(1).cpu() == truth.mode)[named])
            right["stage"].append((out.stage.argmax(1).cpu() == truth.stage)[truth.stage_weight > 0])
            moving = truth.correction_weight > 0
            a, b = (t[moving][:, -8:-2] for t in (out.correction.cpu(), truth.correction))
            right["cosine"].append(F.cosine_similarity(a, b, dim=1))
            right["mm"].append((out.objects.cpu() - truth.objects)[truth.objects != 0].abs() * 100.0)
    mean = {name: float(torch.cat(parts).float().mean()) for name, parts in right.items()}
    mean["balanced"] = (mean.pop("bad") + mean.pop("good")) / 2
    return {name: round(value, 4) for name, value in mean.items() if math.isfinite(value)}


def loss_of(out: Outputs, truth: Targets) -> Tensor:
    """What is to be made small: every head's own loss, where there is a truth for it."""

    def mean(values: Tensor, weight: Tensor) -> Tensor:
        return (values * weight).sum() / weight.sum().clamp(min=1.0)

    smooth = F.smooth_l1_loss(out.correction, truth.correction, reduction="none", beta=0.1).mean(1)
    after = F.smooth_l1_loss(out.continuation, truth.continuation, reduction="none", beta=0.1).mean(1)
    # The way it leads to in the end, apart from how far: that is what counts if the way is short.
    last = slice(-8, -2)
    aside = 1 - F.cosine_similarity(out.correction[:, last], truth.correction[:, last], dim=1)
    answer = F.binary_cross_entropy_with_logits
    kind = F.cross_entropy(out.mode, truth.mode, reduction="none", label_smoothing=0.05)
    return (
        mean(answer(out.failing, truth.failing, reduction="none"), truth.failing_weight)
        + 0.7 * mean(kind, truth.mode_weight)
        + 0.3 * mean(F.cross_entropy(out.stage, truth.stage, reduction="none"), truth.stage_weight)
        + mean(4.0 * smooth + 0.3 * aside, truth.correction_weight)
        + 4.0 * mean(after, truth.continuation_weight)
        + 0.2 * mean(answer(out.help, truth.help, reduction="none"), truth.help_weight)
    )


def _loss(net: CompactNet, inputs: Inputs, truth: Targets) -> Tensor:
    # Half precision where the processor has it: twice as fast, and as good.
    with torch.autocast(inputs.motion.device.type, dtype=torch.bfloat16):
        objects, sight = net.look(inputs)
        # Pictures stay as they are: only what judges is shown the moment elsewhere.
        objects, motion, there = elsewhere(objects.detach(), inputs.motion, truth)
        out = net.judge(objects, motion, inputs.words)
    loss = loss_of(out, there)
    if net.finder is None or sight is None:
        return loss
    return loss + sight_loss(net.finder, sight, inputs.motion[:, :POSE], truth)


def _eyes(name: str, spec: WindowSpec) -> CompactModel:
    """The model whose finder is kept.

    Raises:
        UserError: If it has none, or looks at other pictures.
    """
    model = load_model(name)
    if not isinstance(model, CompactModel) or model.net.finder is None:
        raise UserError(f"expected a compact model with eyes, got {name}, which has none")
    for what in ("views", "frames", "size"):
        if (got := getattr(model.window_spec, what)) != (wanted := getattr(spec, what)):
            raise UserError(f"expected eyes for {what} {wanted} as the samples have, got {name} for {got}")
    return model


def _validation(samples: SampleSet, config: CompactConfig) -> Batches | None:
    """Windows of the validation split: with pictures if there are any."""
    for pictures in (True, False):
        if rows := samples.indices("validation", images=pictures):
            return Batches(samples, rows, config, pictures=pictures)
    return None


def _config(
    samples: SampleSet, rows: Sequence[int], settings: CompactTraining, eyes: CompactModel | None
) -> CompactConfig:
    chosen = [samples.samples[i] for i in rows]
    seen = {s.mode for s in chosen}
    return CompactConfig(
        window=samples.spec,
        modes=tuple(MODES.in_order(seen)),
        stages=tuple(sorted({s.stage for s in chosen})),
        instructions=tuple(sorted({s.instruction for s in chosen})),
        widths=eyes.meta.config.widths if eyes else settings.widths,
        hidden=settings.hidden,
        lenses=eyes.meta.config.lenses if eyes else () if settings.blind else _lenses(samples, rows),
        blind=settings.blind,
    )


def _lenses(samples: SampleSet, rows: Sequence[int]) -> tuple[CameraIntrinsics, ...]:
    seen = next(i for i in rows if samples.has_images(i))
    return tuple(CameraIntrinsics(float(camera[7]), bool(camera[8])) for camera in samples.cameras[seen])


def _meta(
    samples: SampleSet,
    rows: Sequence[int],
    config: CompactConfig,
    settings: CompactTraining,
    report: EpochReport,
    eyes: CompactModel | None,
) -> CompactMeta:
    # What eyes that are kept have learned from it has learned from, too.
    seeds = {task: set(known) for task, known in eyes.meta.train_seeds.items()} if eyes else {}
    for i in rows:
        sample = samples.samples[i]
        seeds.setdefault(sample.task, set()).add(sample.seed)
    cameras = samples.manifests[0].config
    seen = [samples.has_images(i) for i in rows]
    trained = {
        "samples": f"{sum(seen)} with pictures, {len(rows) - sum(seen)} without",
        "made by": command_line(),
        "from": " && ".join(
            manifest.command(folder)
            for folder, manifest in zip(samples.paths, samples.manifests, strict=True)
        ),
        "settings": codec.dumps(settings),
        "report": codec.dumps(report),
        "eyes": fingerprint(settings.eyes) if settings.eyes else "trained here",
        "commit": collect_provenance().commit,
        "cameras": f"moved by up to {cameras.jitter_metres} m and {cameras.jitter_degrees} degrees",
    }
    if eyes:
        # Eyes that had been kept before were trained for an earlier checkpoint, which this one's names.
        before = {what: words for what, words in eyes.meta.trained.items() if what.startswith(_OF_EYES)}
        trained |= before or {_OF_EYES + what: words for what, words in eyes.meta.trained.items()}
    return CompactMeta(config, {task: tuple(sorted(s)) for task, s in sorted(seeds.items())}, trained)


def _to(batch: tuple[Inputs, Targets], device: torch.device) -> tuple[Inputs, Targets]:
    inputs, truth = batch
    given = None if inputs.objects is None else inputs.objects.to(device)
    moved = Inputs(inputs.frames.to(device), inputs.motion.to(device), inputs.words.to(device), given)
    return moved, Targets(**{name: tensor.to(device) for name, tensor in vars(truth).items()})


def _save_state(path: Path, identity: str, epoch: int, seconds: float, *parts: Any) -> None:
    import io

    buffer = io.BytesIO()
    states = [part.state_dict() for part in parts]
    torch.save({"identity": identity, "epoch": epoch, "seconds": seconds, "states": states}, buffer)
    write_atomically(path, buffer.getvalue())


def _resume(path: Path, identity: str, *parts: Any) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    if state["identity"] != identity:
        raise UserError(f"{path.parent} holds a run with other settings or samples; choose another --out")
    for part, values in zip(parts, state["states"], strict=True):
        part.load_state_dict(values)
    return int(state["epoch"]), float(state["seconds"])
