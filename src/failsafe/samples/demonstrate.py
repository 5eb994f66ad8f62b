"""Build a set of demonstrations: render the expert's rollouts and write them."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from failsafe.datasets.files import is_leftover, remove_partials, write_atomically
from failsafe.datasets.locks import locked
from failsafe.errors import UserError
from failsafe.execution.contract import Executor, ignore
from failsafe.experts.tasks import check_task, load_task
from failsafe.generation.demonstrations import record_demonstrations
from failsafe.records import codec
from failsafe.records.files import exists
from failsafe.records.names import task_folder
from failsafe.records.provenance import collect_provenance
from failsafe.records.trace import Trace, pack
from failsafe.records.transforms import ImageTransform
from failsafe.samples.demonstrations import (
    DemonstrationConfig,
    DemonstrationManifest,
    read_demonstration_manifest,
)
from failsafe.samples.robots import common_robot
from failsafe.samples.targets import chunk_targets
from failsafe.simulators.contract import Simulator


def build_demonstrations(
    config: DemonstrationConfig,
    out: Path,
    executor: Executor,
    callback: Callable[[int, int], None] = ignore,
) -> int:
    """Make a set of demonstrations, or what is missing of one.

    Args:
        config: What the set contains.
        out: Folder of the set.
        executor: Runs the episodes.
        callback: Called with the number of episodes done so far and in total.

    Returns:
        Number of episodes.

    Raises:
        UserError: If a task is not available, its expert fails too often, or `out` holds something else.
    """
    with demonstration_folder(config, out):
        writer = DemonstrationWriter(config, out)
        return record_demonstrations(
            config.tasks, config.episodes, config.first_seed, writer, executor, callback
        )


@contextmanager
def demonstration_folder(
    config: DemonstrationConfig, out: Path, found: Mapping[str, int] | None = None
) -> Generator[None]:
    """Begin or continue a set of demonstrations, and keep its folder locked.

    Args:
        config: What the set contains.
        out: Folder of the set.
        found: Number of episodes of each task, of a set from a dataset.

    Raises:
        UserError: If a task is not available, or `out` holds something else.
    """
    for task in config.tasks:
        check_task(task)
    manifest = out / "manifest.json"
    if manifest.exists():
        if read_demonstration_manifest(out).config != config:
            raise UserError(f"{out} holds demonstrations made with other settings: choose another folder")
    elif out.is_dir() and not all(map(is_leftover, out.iterdir())):
        raise UserError(f"expected an empty folder or one of demonstrations, got {out} with other files")
    with locked(out):
        remove_partials(out)
        if not manifest.exists():
            write_atomically(manifest, codec.dumps(_describe(config, dict(found or {}))).encode())
        yield


class DemonstrationWriter:
    """Renders and writes demonstrations.

    Args:
        config: What the set contains.
        out: Folder of the set.
    """

    def __init__(self, config: DemonstrationConfig, out: Path) -> None:
        self._config = config
        self.folder = out

    def has(self, task: str, seed: int) -> bool:
        """Whether the demonstration of a task and seed is stored. See `DemonstrationSink.has`."""
        return exists(self.path(task, seed))

    def write(self, simulator: Simulator, task: str, seed: int, trace: Trace) -> None:
        """Render a demonstration and store it.

        Args:
            simulator: Simulator of the task, reset to the seed.
            task: Name of the task.
            seed: Seed of the initial state.
            trace: The expert's rollout.

        Raises:
            StoreError: If the folder cannot be written.
        """
        self.write_from(0, simulator, self.path(task, seed), trace)

    def write_from(self, first: int, simulator: Simulator, path: Path, trace: Trace) -> None:
        """Render a rollout from one of its control steps on, and store it; errors as for `write`.

        Args:
            first: The control step.
            simulator: Simulator of the task, reset to the seed.
            path: File of the demonstration, see `path`.
            trace: The whole rollout.
        """
        config = self._config
        steps = list(range(first, len(trace), config.stride))
        cameras = [simulator.camera(view) for view in config.views]
        transform = ImageTransform(config.size)
        frames = np.empty((len(steps), len(cameras), config.size, config.size, 3), dtype=np.uint8)
        for row, step in enumerate(steps):
            simulator.restore(trace.states[step])
            frames[row] = transform.all(simulator.render(cameras, transform.rendered))
        buffer = io.BytesIO()
        np.save(buffer, frames, allow_pickle=False)
        write_atomically(path.with_suffix(".npy"), buffer.getvalue(), self.folder)
        arrays = {
            "tcp_poses": trace.tcp_poses[steps],
            "gripper_widths": trace.gripper_widths[steps],
            "actions": np.stack([chunk_targets(trace, step, config.chunk) for step in steps]),
        }
        write_atomically(path, pack(arrays), self.folder)

    def path(self, task: str, seed: int, recovery: str = "") -> Path:
        """Return the file of a demonstration.

        Args:
            task: Name of the task.
            seed: Seed of the initial state.
            recovery: Name of the recovery, which is unique for its seed; empty for a nominal rollout.
        """
        return task_folder(self.folder, task) / f"{seed:08d}{'-' if recovery else ''}{recovery}.npz"


def _describe(config: DemonstrationConfig, found: dict[str, int]) -> DemonstrationManifest:
    """Return the manifest of a configuration, with the facts of its tasks."""
    simulators = {task: load_task(task).simulator for task in config.tasks}
    robot = common_robot({task: simulator.spec.embodiment for task, simulator in simulators.items()})
    return DemonstrationManifest(
        config=config,
        control_hz=robot.control_hz,
        instructions={task: simulator.episode.instruction for task, simulator in simulators.items()},
        cameras={
            task: tuple(simulator.camera(view) for view in config.views)
            for task, simulator in simulators.items()
        },
        provenance=collect_provenance(),
        embodiment=robot,
        found=found,
    )
