"""What a training of the compact network is made of: its samples, its network, and the model card."""

from __future__ import annotations

from collections.abc import Sequence

from failsafe.errors import UserError
from failsafe.models import version_1
from failsafe.models.camera_geometry import CameraIntrinsics
from failsafe.models.compact import CompactMeta, CompactModel
from failsafe.models.compact_net import CompactConfig
from failsafe.models.contract import check_objects
from failsafe.models.loading import fingerprint, load_model
from failsafe.models.normalization import Normalization
from failsafe.perturbations import MODES
from failsafe.records import codec
from failsafe.records.provenance import collect_provenance, command_line
from failsafe.samples.sample_set import SampleSet
from failsafe.training.compact_config import CompactTraining, TrainingReport

_KEPT = "localizer, "
"""Prefix of the model-card entries about the training of a localizer that was kept."""
_KEPT_VERSION_1 = "eyes, "
"""The same prefix in checkpoints of version 1."""


def load_localizer(name: str, samples: SampleSet) -> CompactModel:
    """Load the model whose object localizer is kept.

    Args:
        name: Its name, see `load_model`.
        samples: The samples to train on.

    Raises:
        UserError: If the model has no localizer, takes other images, or has too few object slots.
    """
    model = load_model(name)
    if not isinstance(model, CompactModel) or model.net.localizer is None:
        raise UserError(f"expected a compact model with an object localizer, got {name}, which has none")
    for what in ("views", "frames", "size"):
        if (got := getattr(model.window_spec, what)) != (wanted := getattr(samples.spec, what)):
            raise UserError(
                f"expected a localizer for {what} {wanted} as the samples have, got {name} for {got}"
            )
    for task, objects in samples.objects_by_task.items():
        check_objects(model, task, objects)
    return model


def training_rows(
    samples: SampleSet, settings: CompactTraining, kept: CompactModel | None
) -> tuple[list[int], list[int]]:
    """Choose the samples to train on.

    Args:
        samples: The sample set.
        settings: Hyperparameters.
        kept: The model whose localizer is kept, if any.

    Returns:
        Indices of the samples with images, and of the image-free ones.

    Raises:
        UserError: If there are fewer than a batch.
    """
    rows, image_free = samples.indices("train"), samples.indices("train", images=False)
    if kept:
        rows = []
    alone = kept is not None or (settings.proprioception_only and not rows)
    least, without = (settings.image_free_batch, "without") if alone else (settings.batch, "with")
    if len(chosen := image_free if alone else rows) < least:
        raise UserError(
            f"expected at least {least} samples {without} images to train on, got {len(chosen)} in "
            f"{', '.join(map(str, samples.paths))}"
        )
    return rows, image_free


def network_config(
    samples: SampleSet, rows: Sequence[int], settings: CompactTraining, kept: CompactModel | None
) -> CompactConfig:
    """Return the network for some samples.

    Args:
        samples: The sample set.
        rows: Indices of the samples to train on.
        settings: Hyperparameters.
        kept: The model whose localizer is kept, if any.

    Raises:
        UserError: If the samples are of robots with different step limits or control rates, or no network
            can be made for them.
    """
    chosen = [samples.samples[i] for i in rows]
    seen = {s.mode for s in chosen}
    embodiment = samples.embodiment or version_1.EMBODIMENT
    if kept:
        before = kept.meta.config
        intrinsics, normalization, objects = before.intrinsics, before.normalization, before.objects
    else:
        intrinsics = () if settings.proprioception_only else _intrinsics(samples, rows)
        normalization, objects = Normalization.of(embodiment), samples.objects.shape[1]
    try:
        return CompactConfig(
            window=samples.spec,
            modes=tuple(name for name in MODES if name in seen),
            stages=tuple(sorted({s.stage for s in chosen})),
            instructions=tuple(sorted({s.instruction for s in chosen})),
            embodiment=embodiment,
            normalization=normalization,
            widths=kept.meta.config.widths if kept else settings.widths,
            hidden=settings.hidden,
            intrinsics=intrinsics,
            proprioception_only=settings.proprioception_only,
            objects=objects,
        )
    except ValueError as error:
        raise UserError(f"expected samples that a network can be made for, got others: {error}") from error


def describe(
    samples: SampleSet,
    rows: Sequence[int],
    config: CompactConfig,
    settings: CompactTraining,
    report: TrainingReport,
    kept: CompactModel | None,
) -> CompactMeta:
    """Return the description of a checkpoint.

    Args:
        samples: The sample set.
        rows: Indices of the samples trained on.
        config: The network.
        settings: Hyperparameters.
        report: State of the training at the weights of the checkpoint.
        kept: The model whose localizer is kept, if any. What it was trained on counts as training data.
    """
    seeds = {task: set(known) for task, known in kept.meta.train_seeds.items()} if kept else {}
    for i in rows:
        sample = samples.samples[i]
        seeds.setdefault(sample.task, set()).add(sample.seed)
    cameras = samples.manifests[0].config
    seen = [samples.has_images(i) for i in rows]
    trained = {
        "samples": f"{sum(seen)} with images, {len(rows) - sum(seen)} without",
        "made by": command_line(),
        "from": " && ".join(
            manifest.command(folder)
            for folder, manifest in zip(samples.paths, samples.manifests, strict=True)
        ),
        "settings": codec.dumps(settings),
        "report": codec.dumps(report),
        "localizer": fingerprint(settings.localizer) if settings.localizer else "trained here",
        "commit": collect_provenance().commit,
        "cameras": f"moved by up to {cameras.jitter_metres} m and {cameras.jitter_degrees} degrees",
    }
    if kept:
        trained |= _localizer_entries(kept.meta.trained)
    return CompactMeta(config, {task: tuple(sorted(s)) for task, s in sorted(seeds.items())}, trained)


def _localizer_entries(trained: dict[str, str]) -> dict[str, str]:
    """Return the entries about the training of a kept localizer, from the model card of its checkpoint.

    If that checkpoint had kept an earlier localizer itself, the entries about the earlier one are returned.
    """
    for prefix in (_KEPT, _KEPT_VERSION_1):
        before = {
            _KEPT + what.removeprefix(prefix): text
            for what, text in trained.items()
            if what.startswith(prefix)
        }
        if before:
            return before
    return {_KEPT + what: text for what, text in trained.items()}


def _intrinsics(samples: SampleSet, rows: Sequence[int]) -> tuple[CameraIntrinsics, ...]:
    seen = next(i for i in rows if samples.has_images(i))
    return tuple(CameraIntrinsics(float(camera[7]), bool(camera[8])) for camera in samples.cameras[seen])
