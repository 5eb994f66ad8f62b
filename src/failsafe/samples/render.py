"""Build a sample set: select samples, cut and render their windows, write them."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from failsafe.datasets.files import is_leftover, remove_partials, write_atomically
from failsafe.datasets.locks import locked
from failsafe.datasets.manifest import check_task_code
from failsafe.datasets.mined import read_source
from failsafe.datasets.store import Dataset
from failsafe.errors import RecordError, UserError
from failsafe.execution.contract import SILENT, Executor, Reporter, ignore
from failsafe.experts.tasks import Task, load_task
from failsafe.generation.exploration import record_explorations
from failsafe.imports import names_from_files
from failsafe.records import codec
from failsafe.records.case import NOMINAL
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.names import task_folder
from failsafe.records.provenance import collect_provenance
from failsafe.records.seeds import check_trainable
from failsafe.records.trace import Trace, pack
from failsafe.samples.manifest import SampleConfig, SampleManifest, read_sample_manifest
from failsafe.samples.sample import Kind, Sample
from failsafe.samples.sample_set import SampleSet
from failsafe.samples.select import CONTINUATION_STEPS, explored_states, select_samples
from failsafe.samples.splits import check_leaks
from failsafe.samples.targets import chunk_targets
from failsafe.samples.windows import cut_proprioception, cut_window, window_cameras
from failsafe.simulators.contract import Camera, Simulator


def build_samples(
    sources: Sequence[Path],
    out: Path,
    config: SampleConfig,
    executor: Executor,
    callback: Callable[[int, int], None] = ignore,
) -> int:
    """Make a sample set, or what is missing of one.

    A set of exploration samples first records the random-exploration rollouts that the datasets lack.

    Args:
        sources: Folders of the datasets.
        out: Folder of the sample set.
        config: Its configuration.
        executor: Runs the recording and the rendering.
        callback: Called with the number of samples done so far and in total.

    Returns:
        Number of samples, without those that were given up because they killed their worker twice.

    Raises:
        UserError: If the datasets contain no such samples, or seeds kept for calibration or proof, or were
            made by other code of a task, or `out` holds samples made with other settings.
    """
    with names_from_files():
        return _build(sources, out, config, executor, callback)


def _build(
    sources: Sequence[Path],
    out: Path,
    config: SampleConfig,
    executor: Executor,
    callback: Callable[[int, int], None],
) -> int:
    datasets = [Dataset(path) for path in sources]
    made = [read_source(dataset.path) for dataset in datasets]
    commands = tuple(command for command, _ in made)
    if config.only_split != "test":
        for _, seeds in made:
            check_trainable(seeds)
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
    elif out.exists() and not all(map(is_leftover, out.iterdir())):
        raise UserError(f"expected an empty folder or one of samples, got {out} with other files in it")
    for dataset in datasets:
        check_task_code(dataset.path)
    lost: list[str] = []
    if config.explore:
        for source, dataset in enumerate(datasets):
            with locked(dataset.path):
                states = record_explorations(dataset, explored_states(dataset, config), executor)
            lost += [_group_name(task, seed, source) for task, seed in states]
    samples = select_samples(datasets, config)
    check_leaks(samples)
    with locked(out):
        remove_partials(out)
        manifest = replace(manifest, embodiments=_embodiments(samples))
        _write_manifest(out, manifest)
        groups = _render_groups([d.path for d in datasets], out, config, samples, executor, callback)
        lost += [group.name for group in groups]
        _write_manifest(out, replace(manifest, complete=True, lost=tuple(sorted(lost))))
    return len(samples) - sum(len(group.samples) for group in groups)


def _embodiments(samples: Sequence[Sample]) -> dict[str, EmbodimentSpec]:
    """Return the robot of each task."""
    tasks = sorted({sample.task for sample in samples})
    return {task: load_task(task).simulator.spec.embodiment for task in tasks}


def _write_manifest(out: Path, manifest: SampleManifest) -> None:
    write_atomically(out / "manifest.json", codec.dumps(manifest).encode(), out)


@dataclass(frozen=True)
class SampleGroup:
    """The samples of one initial state of one source dataset: one file.

    Attributes:
        samples: The samples, in a fixed order.
    """

    samples: tuple[Sample, ...]

    @property
    def name(self) -> str:
        """TASK/SEED-SOURCE: the file is SEED-SOURCE.npz in the task's folder."""
        first = self.samples[0]
        return _group_name(first.task, first.seed, first.source)


def _group_name(task: str, seed: int, source: int) -> str:
    return f"{task}/{seed:08d}-{source}"


def _render_groups(
    sources: list[Path],
    out: Path,
    config: SampleConfig,
    samples: list[Sample],
    executor: Executor,
    callback: Callable[[int, int], None],
) -> list[SampleGroup]:
    """Write the files that are missing; return the groups that killed their worker twice."""
    key = lambda s: (s.task, s.seed, s.source)  # noqa: E731
    groups = [SampleGroup(tuple(g)) for _, g in itertools.groupby(sorted(samples, key=key), key=key)]
    job = SampleJob(sources, out, config)
    missing = [group for group in groups if not job.path(group).exists()]
    done = len(samples) - sum(len(group.samples) for group in missing)
    callback(done, len(samples))

    def count(group: SampleGroup) -> None:
        nonlocal done
        done += len(group.samples)
        callback(done, len(samples))

    executor.run(job, missing, count)
    return job.lost


class SampleJob:
    """Cuts and renders the windows of one initial state after the other.

    Args:
        sources: Folders of the datasets.
        out: Folder of the sample set.
        config: Its configuration.

    Attributes:
        lost: The groups that were given up.
    """

    def __init__(self, sources: Sequence[Path], out: Path, config: SampleConfig) -> None:
        self._sources, self._out, self._config = sources, out, config
        self.folders = (*sources, out)
        self._tasks: dict[str, Task] = {}
        self.lost: list[SampleGroup] = []

    def path(self, group: SampleGroup) -> Path:
        """Return the file of a group's records and proprioception; its images are beside it."""
        return task_folder(self._out, group.samples[0].task) / f"{Path(group.name).name}.npz"

    def run(self, item: SampleGroup, reporter: Reporter = SILENT) -> None:
        """Cut the windows of one initial state, render them unless the set is image-free, and write them.

        See `Job.run`.

        Raises:
            RecordError: If a rollout is damaged or does not match its sample.
        """
        samples, config, spec = item.samples, self._config, self._config.window
        first = samples[0]
        dataset = Dataset(self._sources[first.source])
        traces: dict[str, dict[str, Trace]] = {}
        for sample in samples:
            if sample.case_id not in traces:
                traces[sample.case_id] = self._traces(dataset, sample)
        chosen = [traces[sample.case_id][sample.rollout] for sample in samples]
        path = self.path(item)
        tcp_poses = np.empty((len(samples), spec.history + 1, 7), dtype=np.float32)
        widths = np.empty((len(samples), spec.history + 1), dtype=np.float32)
        slots = max(trace.objects.shape[1] for trace in chosen)
        objects = np.full((len(samples), slots, 7), np.nan, dtype=np.float32)
        camera_rows = np.full((len(samples), len(spec.views), 9), np.nan, dtype=np.float32)
        continuation = np.full((len(samples), CONTINUATION_STEPS, 7), np.nan, dtype=np.float32)
        for row, (sample, trace) in enumerate(zip(samples, chosen, strict=True)):
            try:
                tcp_poses[row], widths[row] = cut_proprioception(trace, sample.step, spec.history)
            except RecordError as error:
                raise RecordError(f"{sample.name}: {error}") from error
            present = trace.objects[sample.step]
            objects[row, : len(present)] = present
            if sample.kind in (Kind.NOMINAL, Kind.RECOVERED):
                continuation[row] = chunk_targets(trace, sample.step, CONTINUATION_STEPS)
        if config.images:
            simulator = self._task(first.task).simulator
            cameras = [window_cameras(simulator, config, sample.name) for sample in samples]
            buffer = io.BytesIO()
            np.save(buffer, _images(simulator, config, samples, chosen, cameras), allow_pickle=False)
            write_atomically(path.with_suffix(".npy"), buffer.getvalue(), self._out)
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
        write_atomically(path, pack(arrays), self._out)

    def give_up(self, item: SampleGroup, part: str = "") -> bool:
        """Leave out the samples of an initial state that killed its worker twice. See `Job.give_up`."""
        self.lost.append(item)
        return False

    def _task(self, name: str) -> Task:
        if name not in self._tasks:
            self._tasks[name] = load_task(name)
        return self._tasks[name]

    def _traces(self, dataset: Dataset, sample: Sample) -> dict[str, Trace]:
        """Return the rollouts of the sample's case, or the one rollout of a sample without a case."""
        if sample.kind is Kind.EXPLORATION:
            return {sample.rollout: dataset.exploration(sample.task, sample.seed)}
        if sample.rollout == NOMINAL:
            return {NOMINAL: dataset.nominal(sample.task, sample.seed)[1]}
        traces = dataset.traces(sample.task, sample.case_id)
        if sample.rollout not in traces:
            raise RecordError(
                f"{sample.case_id}: expected a rollout '{sample.rollout}', got {', '.join(traces)}"
            )
        return traces


def _images(
    simulator: Simulator,
    config: SampleConfig,
    samples: Sequence[Sample],
    traces: Sequence[Trace],
    cameras: list[list[Camera]],
) -> UInt8[np.ndarray, "N V F S S 3"]:
    """Render the windows of one initial state, each from its own cameras."""
    spec = config.window
    simulator.reset(samples[0].seed)
    frames = np.empty((len(samples), len(spec.views), spec.frames, spec.size, spec.size, 3), dtype=np.uint8)
    for row, (sample, trace) in enumerate(zip(samples, traces, strict=True)):
        frames[row], _, _ = cut_window(simulator, trace, sample.step, spec, cameras[row])
    return frames
