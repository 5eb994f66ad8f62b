"""Windows for learning, cut out of datasets: rendered once, kept as `datasets.sample_set` reads them."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import multiprocessing as mp
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from failsafe.datasets.cameras import move_camera
from failsafe.datasets.files import locked, write_atomically
from failsafe.datasets.manifest import read_manifest
from failsafe.datasets.store import Dataset
from failsafe.errors import FailSafeError, RecordError, UserError
from failsafe.experts.tasks import Task, load_task
from failsafe.generation.exploration import wander
from failsafe.records import codec
from failsafe.records.assessment import WindowSpec
from failsafe.records.provenance import collect_provenance
from failsafe.records.trace import Trace, pack
from failsafe.samples.demonstrations import chunk_targets
from failsafe.samples.plan import CONTINUATION_STEPS, Kind, Sample, check_leaks, plan_samples
from failsafe.samples.sample_set import (
    MAX_OBJECTS,
    SampleConfig,
    SampleManifest,
    SampleSet,
    read_sample_manifest,
)
from failsafe.simulators.contract import Camera, Simulator


def build_samples(
    sources: Sequence[Path], out: Path, config: SampleConfig, workers: int, tell: Callable[[int, int], None]
) -> int:
    """Make a set of samples; what is there already is left as it is.

    Args:
        sources: Folders of datasets.
        out: The folder to write to.
        config: What it is to hold.
        workers: Number of processes that render.
        tell: Called with the number of samples done so far, and of all.

    Returns:
        Number of samples.

    Raises:
        UserError: If the sources hold none, or `out` holds samples made with other settings.
        FailSafeError: If a process died.
    """
    datasets = [Dataset(path) for path in sources]
    commands = tuple(read_manifest(dataset.path).command for dataset in datasets)
    manifest = SampleManifest(config, commands, collect_provenance())
    if (out / "manifest.json").exists():
        before = read_sample_manifest(out)
        same = (before.config, before.sources) == (config, commands)
        # Nothing is lost where nothing has been made: the command before may have named a wrong view.
        if not same and any(out.glob("*/*.npz")):
            raise UserError(
                f"{out} holds samples made with other settings or from other datasets; choose another --out"
            )
        if same and before.complete:
            return len(SampleSet(out))
    elif out.exists() and any(out.iterdir()):
        raise UserError(f"expected an empty folder or one of samples, got {out} with other files in it")
    samples = plan_samples(
        datasets,
        config.window.history,
        config.splits,
        config.failing_share,
        config.per_cell or None,
        config.only_split,
        config.every,
        config.wander,
    )
    check_leaks(samples)
    with locked(out):
        _write_manifest(out, manifest)
        key = lambda s: (s.task, s.seed, s.source)  # noqa: E731
        groups = [list(group) for _, group in itertools.groupby(sorted(samples, key=key), key=key)]
        _render_groups([d.path for d in datasets], out, config, groups, workers, tell)
        _write_manifest(out, SampleManifest(config, commands, manifest.provenance, complete=True))
    return len(samples)


def cut_window(
    simulator: Simulator, seed: int, trace: Trace, step: int, spec: WindowSpec, cameras: Sequence[Camera]
) -> tuple[UInt8[np.ndarray, "V F S S 3"], Float32[np.ndarray, "H1 7"], Float32[np.ndarray, "H1"]]:
    """Pictures, tool poses and gripper openings of one moment of a rollout.

    The simulator must have been reset to the rollout's seed.

    Raises:
        UserError: If the rollout has no such step, or not enough steps before it.
        RecordError: If the tool's poses or the gripper's openings are not finite.
    """
    if not spec.history <= step < len(trace.states):
        raise UserError(f"expected a step from {spec.history} (the history) to {len(trace)}, got {step}")
    frames = np.empty((len(cameras), spec.frames, spec.size, spec.size, 3), dtype=np.uint8)
    for i, offset in enumerate(spec.offsets):
        simulator.restore(trace.states[step + offset])
        frames[:, i] = simulator.render(cameras, spec.size)
    return frames, *_past(trace, step, spec.history)


def _past(
    trace: Trace, step: int, history: int
) -> tuple[Float32[np.ndarray, "H1 7"], Float32[np.ndarray, "H1"]]:
    """Tool poses and gripper openings of the control steps up to a moment.

    Raises:
        RecordError: If one of them is not finite.
    """
    past = slice(step - history, step + 1)
    tcp_poses, widths = trace.tcp_poses[past], trace.gripper_widths[past]
    if not (np.isfinite(tcp_poses).all() and np.isfinite(widths).all()):
        raise RecordError(
            f"expected finite tool poses and gripper openings in the {history} control steps up to step "
            f"{step}, got NaN or infinity: this rollout cannot be learned from"
        )
    return tcp_poses, widths


def window_cameras(simulator: Simulator, config: SampleConfig, name: str) -> list[Camera]:
    """The cameras of one window, moved as the settings say, by a draw that depends on the window's name."""
    digest = hashlib.sha256(f"cameras {name}".encode()).digest()
    rng = np.random.default_rng(np.frombuffer(digest[:16], dtype=np.uint32))
    cameras: list[Camera] = []
    for view in config.window.views:
        metres, radians = config.jitter_metres, math.radians(config.jitter_degrees)
        if not config.shifted:
            metres, radians = metres * rng.random(), radians * rng.random()
        cameras.append(move_camera(simulator.camera(view), metres, radians, rng))
    return cameras


def _write_manifest(out: Path, manifest: SampleManifest) -> None:
    write_atomically(out / "manifest.json", codec.dumps(manifest).encode())


def _render_groups(
    sources: list[Path],
    out: Path,
    config: SampleConfig,
    groups: list[list[Sample]],
    workers: int,
    tell: Callable[[int, int], None],
) -> None:
    total = sum(map(len, groups))
    missing = [g for g in groups if not _group_path(out, g[0]).exists()]
    done = total - sum(map(len, missing))
    tell(done, total)
    context = mp.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        jobs = {pool.submit(_render_group, sources, out, config, group): len(group) for group in missing}
        try:
            for job in as_completed(jobs):
                job.result()
                done += jobs[job]
                tell(done, total)
        except BrokenProcessPool as error:
            raise FailSafeError(
                "a rendering process died; what is rendered is kept, so run the same command again"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


_tasks: dict[str, Task] = {}
"""The simulators of a rendering process: making one costs a second."""


def _group_path(out: Path, sample: Sample) -> Path:
    return out / sample.task / f"{sample.seed:08d}-{sample.source}.npz"


def _render_group(sources: list[Path], out: Path, config: SampleConfig, samples: list[Sample]) -> None:
    """Cut the windows of one initial state, and render them unless they are to be without pictures."""
    first, spec = samples[0], config.window
    dataset = Dataset(sources[first.source])
    traces: dict[str, dict[str, Trace]] = {}
    for sample in samples:
        if sample.case_id not in traces:
            traces[sample.case_id] = _traces(dataset, sample)
    chosen = [traces[sample.case_id][sample.rollout] for sample in samples]
    path = _group_path(out, first)
    tcp_poses = np.empty((len(samples), spec.history + 1, 7), dtype=np.float32)
    widths = np.empty((len(samples), spec.history + 1), dtype=np.float32)
    objects = np.full((len(samples), MAX_OBJECTS, 7), np.nan, dtype=np.float32)
    where = np.full((len(samples), len(spec.views), 9), np.nan, dtype=np.float32)
    continuation = np.full((len(samples), CONTINUATION_STEPS, 7), np.nan, dtype=np.float32)
    for row, (sample, trace) in enumerate(zip(samples, chosen, strict=True)):
        try:
            tcp_poses[row], widths[row] = _past(trace, sample.step, spec.history)
        except RecordError as error:
            raise RecordError(f"{sample.name}: {error}") from error
        here = trace.objects[sample.step][:MAX_OBJECTS]
        objects[row, : len(here)] = here
        if sample.kind in (Kind.NOMINAL, Kind.RECOVERED):
            continuation[row] = chunk_targets(trace, sample.step, CONTINUATION_STEPS)
    if config.pictures:
        simulator = _task(first.task).simulator
        cameras = [window_cameras(simulator, config, sample.name) for sample in samples]
        buffer = io.BytesIO()
        np.save(buffer, _pictures(simulator, config, samples, chosen, cameras), allow_pickle=False)
        write_atomically(path.with_suffix(".npy"), buffer.getvalue())
        where[:] = [[camera.numbers for camera in views] for views in cameras]
    records = json.dumps([codec.to_plain(sample) for sample in samples], sort_keys=True).encode()
    arrays = {
        "records": np.frombuffer(records, dtype=np.uint8),
        "tcp_poses": tcp_poses,
        "gripper_widths": widths,
        "objects": objects,
        "cameras": where,
        "continuation": continuation,
    }
    write_atomically(path, pack(arrays))


def _pictures(
    simulator: Simulator,
    config: SampleConfig,
    samples: list[Sample],
    traces: list[Trace],
    cameras: list[list[Camera]],
) -> UInt8[np.ndarray, "N V F S S 3"]:
    """Pictures of the windows of one initial state, each from cameras of its own."""
    spec = config.window
    simulator.reset(samples[0].seed)
    frames = np.empty((len(samples), len(spec.views), spec.frames, spec.size, spec.size, 3), dtype=np.uint8)
    for row, (sample, trace) in enumerate(zip(samples, traces, strict=True)):
        frames[row], _, _ = cut_window(simulator, sample.seed, trace, sample.step, spec, cameras[row])
    return frames


def _task(name: str) -> Task:
    if name not in _tasks:
        _tasks[name] = load_task(name)
    return _tasks[name]


def _traces(dataset: Dataset, sample: Sample) -> dict[str, Trace]:
    if sample.kind is Kind.WANDERING:
        return {sample.rollout: wander(_task(sample.task), sample.seed)}
    if sample.rollout == "nominal":
        return {"nominal": dataset.nominal(sample.task, sample.seed)[1]}
    traces = dataset.traces(sample.task, sample.case_id)
    if sample.rollout not in traces:
        raise RecordError(f"{sample.case_id}: expected a rollout '{sample.rollout}', got {', '.join(traces)}")
    return traces
