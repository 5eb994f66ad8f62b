"""Build a sample set: select samples, cut and render their windows in several processes, write them."""

from __future__ import annotations

import io
import itertools
import json
import multiprocessing as mp
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from failsafe.datasets.files import locked, write_atomically
from failsafe.datasets.manifest import read_manifest
from failsafe.datasets.store import Dataset
from failsafe.errors import FailSafeError, RecordError, UserError
from failsafe.experts.tasks import Task, load_task
from failsafe.generation.exploration import record_explorations
from failsafe.records import codec
from failsafe.records.case import NOMINAL
from failsafe.records.provenance import collect_provenance
from failsafe.records.trace import Trace, pack
from failsafe.samples.manifest import SampleConfig, SampleManifest, read_sample_manifest
from failsafe.samples.sample import Kind, Sample
from failsafe.samples.sample_set import MAX_OBJECTS, SampleSet
from failsafe.samples.select import CONTINUATION_STEPS, explored_states, select_samples
from failsafe.samples.splits import check_leaks
from failsafe.samples.targets import chunk_targets
from failsafe.samples.windows import cut_proprioception, cut_window, window_cameras
from failsafe.simulators.contract import Camera, Simulator


def build_samples(
    sources: Sequence[Path],
    out: Path,
    config: SampleConfig,
    workers: int,
    callback: Callable[[int, int], None],
) -> int:
    """Make a sample set, or what is missing of one.

    A set of exploration samples first records the random-exploration rollouts that the datasets lack.

    Args:
        sources: Folders of the datasets.
        out: Folder of the sample set.
        config: Its configuration.
        workers: Number of processes.
        callback: Called with the number of samples done so far and in total.

    Returns:
        Number of samples.

    Raises:
        UserError: If the datasets contain no such samples, or `out` holds samples made with other settings.
        FailSafeError: If a process died.
    """
    datasets = [Dataset(path) for path in sources]
    commands = tuple(read_manifest(dataset.path).command for dataset in datasets)
    manifest = SampleManifest(config, commands, collect_provenance())
    if (out / "manifest.json").exists():
        before = read_sample_manifest(out)
        same = (before.config, before.sources) == (config, commands)
        # A folder without any sample may be begun again with other settings: the first may have been refused.
        if not same and any(out.glob("*/*.npz")):
            raise UserError(
                f"{out} holds samples made with other settings or from other datasets: choose another folder"
            )
        if same and before.complete:
            return len(SampleSet(out))
    elif out.exists() and any(out.iterdir()):
        raise UserError(f"expected an empty folder or one of samples, got {out} with other files in it")
    if config.explore:
        for dataset in datasets:
            with locked(dataset.path):
                record_explorations(dataset, explored_states(dataset, config), workers)
    samples = select_samples(datasets, config)
    check_leaks(samples)
    with locked(out):
        _write_manifest(out, manifest)
        key = lambda s: (s.task, s.seed, s.source)  # noqa: E731
        groups = [list(group) for _, group in itertools.groupby(sorted(samples, key=key), key=key)]
        _render_groups([d.path for d in datasets], out, config, groups, workers, callback)
        _write_manifest(out, SampleManifest(config, commands, manifest.provenance, complete=True))
    return len(samples)


def _write_manifest(out: Path, manifest: SampleManifest) -> None:
    write_atomically(out / "manifest.json", codec.dumps(manifest).encode())


def _render_groups(
    sources: list[Path],
    out: Path,
    config: SampleConfig,
    groups: list[list[Sample]],
    workers: int,
    callback: Callable[[int, int], None],
) -> None:
    total = sum(map(len, groups))
    missing = [g for g in groups if not _group_path(out, g[0]).exists()]
    done = total - sum(map(len, missing))
    callback(done, total)
    context = mp.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        jobs = {pool.submit(_render_group, sources, out, config, group): len(group) for group in missing}
        try:
            for job in as_completed(jobs):
                job.result()
                done += jobs[job]
                callback(done, total)
        except BrokenProcessPool as error:
            raise FailSafeError(
                "a rendering process died; what is rendered is kept, so run the same command again"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


_tasks: dict[str, Task] = {}
"""The simulators of a rendering process: making one takes a second."""


def _group_path(out: Path, sample: Sample) -> Path:
    return out / sample.task / f"{sample.seed:08d}-{sample.source}.npz"


def _render_group(sources: list[Path], out: Path, config: SampleConfig, samples: list[Sample]) -> None:
    """Cut the windows of one initial state, render them unless the set is image-free, and write them."""
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
    camera_rows = np.full((len(samples), len(spec.views), 9), np.nan, dtype=np.float32)
    continuation = np.full((len(samples), CONTINUATION_STEPS, 7), np.nan, dtype=np.float32)
    for row, (sample, trace) in enumerate(zip(samples, chosen, strict=True)):
        try:
            tcp_poses[row], widths[row] = cut_proprioception(trace, sample.step, spec.history)
        except RecordError as error:
            raise RecordError(f"{sample.name}: {error}") from error
        present = trace.objects[sample.step][:MAX_OBJECTS]
        objects[row, : len(present)] = present
        if sample.kind in (Kind.NOMINAL, Kind.RECOVERED):
            continuation[row] = chunk_targets(trace, sample.step, CONTINUATION_STEPS)
    if config.images:
        simulator = _task(first.task).simulator
        cameras = [window_cameras(simulator, config, sample.name) for sample in samples]
        buffer = io.BytesIO()
        np.save(buffer, _images(simulator, config, samples, chosen, cameras), allow_pickle=False)
        write_atomically(path.with_suffix(".npy"), buffer.getvalue())
        camera_rows[:] = [[camera.numbers for camera in views] for views in cameras]
    records = json.dumps([codec.to_plain(sample) for sample in samples], sort_keys=True).encode()
    arrays = {
        "records": np.frombuffer(records, dtype=np.uint8),
        "tcp_poses": tcp_poses,
        "gripper_widths": widths,
        "objects": objects,
        "cameras": camera_rows,
        "continuation": continuation,
    }
    write_atomically(path, pack(arrays))


def _images(
    simulator: Simulator,
    config: SampleConfig,
    samples: list[Sample],
    traces: list[Trace],
    cameras: list[list[Camera]],
) -> UInt8[np.ndarray, "N V F S S 3"]:
    """Render the windows of one initial state, each from its own cameras."""
    spec = config.window
    simulator.reset(samples[0].seed)
    frames = np.empty((len(samples), len(spec.views), spec.frames, spec.size, spec.size, 3), dtype=np.uint8)
    for row, (sample, trace) in enumerate(zip(samples, traces, strict=True)):
        frames[row], _, _ = cut_window(simulator, trace, sample.step, spec, cameras[row])
    return frames


def _task(name: str) -> Task:
    if name not in _tasks:
        _tasks[name] = load_task(name)
    return _tasks[name]


def _traces(dataset: Dataset, sample: Sample) -> dict[str, Trace]:
    """Return the rollouts of the sample's case, or the one rollout of a sample without a case."""
    if sample.kind is Kind.EXPLORATION:
        return {sample.rollout: dataset.exploration(sample.task, sample.seed)}
    if sample.rollout == NOMINAL:
        return {NOMINAL: dataset.nominal(sample.task, sample.seed)[1]}
    traces = dataset.traces(sample.task, sample.case_id)
    if sample.rollout not in traces:
        raise RecordError(f"{sample.case_id}: expected a rollout '{sample.rollout}', got {', '.join(traces)}")
    return traces
