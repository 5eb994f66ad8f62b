"""Demonstrations: successful episodes of the expert, rendered, for a policy to imitate.

```
demonstrations/
  manifest.json             settings
  TASK/SEED.npy             pictures [N, V, S, S, 3], read by memory map
  TASK/SEED.npz             tool poses, what was commanded next; written last: where it is, both are whole
```
"""

from __future__ import annotations

import io
import multiprocessing as mp
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from failsafe.datasets.files import LOCK, is_partial, locked, write_atomically
from failsafe.errors import UserError
from failsafe.experts.tasks import Task, check_task, load_task
from failsafe.generation.nominal import run_nominal
from failsafe.records import codec, poses
from failsafe.records.provenance import Provenance, collect_provenance
from failsafe.records.trace import Trace, pack, unpack
from failsafe.simulators.contract import Camera

ACTION_NUMBERS = 7
"""Displacement (3, m) and rotation vector (3, rad) from the measured tool pose, base frame; gripper."""


@dataclass(frozen=True)
class DemonstrationConfig:
    """What a set of demonstrations is to hold.

    Attributes:
        tasks: Names of the tasks.
        episodes: Successful episodes of each.
        first_seed: Seed of the first; seeds that the expert fails on are left out.
        views: Names of the cameras.
        size: Height and width of a picture, pixels.
        stride: Control steps from one picture to the next.
        chunk: Control steps H that the commands reach ahead.
    """

    tasks: tuple[str, ...]
    episodes: int
    first_seed: int = 300_000
    views: tuple[str, ...] = ("front", "hand")
    size: int = 96
    stride: int = 3
    chunk: int = 8

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not self.tasks or self.episodes < 1:
            raise UserError("expected at least one task and one episode to demonstrate")
        if self.stride < 1 or self.chunk < 1 or not 16 <= self.size <= 1024:
            raise UserError("expected a stride and a chunk of at least 1 and pictures of 16 to 1024 pixels")


@dataclass(frozen=True)
class DemonstrationManifest:
    """What a set of demonstrations is, and where it comes from.

    Attributes:
        config: Its settings.
        control_hz: Control steps per second.
        instructions: By task, the task in words.
        cameras: By task, where the views look from.
        provenance: Commit and versions of the run that began it.
    """

    config: DemonstrationConfig
    control_hz: float
    instructions: dict[str, str]
    cameras: dict[str, tuple[Camera, ...]]
    provenance: Provenance


class DemonstrationSet:
    """A folder of demonstrations, opened for reading.

    Args:
        path: The folder.
        episodes: Take so many of each task only; 0 for all.

    Attributes:
        tasks: Task of each moment.
        seeds: Seed of each moment.
        tcp_poses: Measured tool pose. [N, 7]
        gripper_widths: Opening, metres. [N]
        actions: Where the commands of the next H steps lead, see `ACTION_NUMBERS`. [N, H, 7]
        keyframes: Tool poses at the keyframes of the episode, the last again where it has fewer. [N, K, 7]
        following: Which of them is the next one, see `KeyframesOf`. [N]
        at_keyframe: The gripper has been told to open or close there, and is about to. [N]

    Raises:
        UserError: If there are none, or fewer than asked for.
    """

    def __init__(self, path: Path, episodes: int = 0) -> None:
        try:
            text = (path / "manifest.json").read_text()
        except OSError as error:
            raise UserError(f"expected demonstrations made by `failsafe demonstrate`, got {path}") from error
        self.manifest = codec.loads(DemonstrationManifest, text, str(path / "manifest.json"))
        self.path = path
        self.tasks: list[str] = []
        self.seeds: list[int] = []
        self._maps: list[np.ndarray] = []
        self._places: list[tuple[int, int]] = []
        parts: list[dict[str, np.ndarray]] = []
        for task in self.manifest.config.tasks:
            files = sorted((path / task).glob("*.npz"))
            wanted = episodes or self.manifest.config.episodes
            if len(files) < wanted:
                raise UserError(f"expected {wanted} demonstrations of {task} in {path}, got {len(files)}")
            for file in files[:wanted]:
                arrays = unpack(file.read_bytes(), str(file))
                parts.append(arrays)
                self._maps.append(np.load(file.with_suffix(".npy"), mmap_mode="r", allow_pickle=False))
                rows = len(arrays["tcp_poses"])
                self._places += [(len(self._maps) - 1, row) for row in range(rows)]
                self.tasks += [task] * rows
                self.seeds += [int(file.stem)] * rows
        self.tcp_poses: Float32[np.ndarray, "N 7"] = np.concatenate([p["tcp_poses"] for p in parts])
        self.gripper_widths: Float32[np.ndarray, "N"] = np.concatenate([p["gripper_widths"] for p in parts])
        self.actions: Float32[np.ndarray, "N H 7"] = np.concatenate([p["actions"] for p in parts])
        found = [keyframes_of(p["actions"][:, 0, 6], p["gripper_widths"]) for p in parts]
        most = max(len(k.rows) for k in found)
        rows = [np.pad(k.rows, (0, most - len(k.rows)), mode="edge") for k in found]
        self.keyframes: Float32[np.ndarray, "N K 7"] = np.concatenate(
            [
                np.broadcast_to(p["tcp_poses"][at], (len(p["tcp_poses"]), most, 7))
                for p, at in zip(parts, rows, strict=True)
            ]
        )
        self.following: Int64[np.ndarray, "N"] = np.concatenate([k.following for k in found])
        self.at_keyframe: Bool[np.ndarray, "N"] = np.concatenate([k.told for k in found])

    def __len__(self) -> int:
        """Number of moments."""
        return len(self.tasks)

    def frames(self, index: int) -> UInt8[np.ndarray, "V S S 3"]:
        """The pictures of a moment, mapped from disk."""
        episode, row = self._places[index]
        return self._maps[episode][row]


def demonstrate(
    config: DemonstrationConfig, out: Path, workers: int, tell: Callable[[int, int], None]
) -> int:
    """Let the expert solve every task from many initial states, and render what it did.

    What is there already is left as it is.

    Args:
        config: What the set is to hold.
        out: The folder to write to.
        workers: Number of processes.
        tell: Called with the number of episodes done so far, and of all.

    Returns:
        Number of episodes.

    Raises:
        UserError: If a task cannot be had, the expert fails on too many seeds, or the folder is another's.
    """
    if workers < 1:
        raise UserError(f"expected at least one process, got {workers}")
    for task in config.tasks:
        check_task(task)
    manifest = out / "manifest.json"
    if manifest.exists():
        before = codec.loads(DemonstrationManifest, manifest.read_text(), str(manifest))
        if before.config != config:
            raise UserError(f"{out} holds demonstrations made with other settings; choose another --out")
    elif out.is_dir() and any(p.name != LOCK and not is_partial(p) for p in out.iterdir()):
        raise UserError(f"expected an empty folder or one of demonstrations, got {out} with other files")
    total = config.episodes * len(config.tasks)
    simulators = {task: load_task(task).simulator for task in config.tasks}
    specs = {task: simulator.spec for task, simulator in simulators.items()}
    rates = {spec.control_hz for spec in specs.values()}
    if len(rates) > 1:
        raise UserError(f"expected tasks with one control rate, got {sorted(rates)} Hz")
    instructions = {task: spec.instruction for task, spec in specs.items()}
    cameras = {
        task: tuple(simulator.camera(view) for view in config.views) for task, simulator in simulators.items()
    }
    with (
        locked(out),
        ProcessPoolExecutor(workers, mp_context=mp.get_context("spawn")) as pool,
    ):
        made = DemonstrationManifest(config, rates.pop(), instructions, cameras, collect_provenance())
        if not manifest.exists():
            write_atomically(manifest, codec.dumps(made).encode())
        done = 0
        for task in config.tasks:
            have = 0
            # Twice as many seeds as episodes, for the expert may fail on some.
            seeds = range(config.first_seed, config.first_seed + 2 * config.episodes + 20)
            jobs = [
                pool.submit(_demonstrate_one, config, out, task, seed) for seed in seeds[: config.episodes]
            ]
            spare = iter(seeds[config.episodes :])
            while jobs and have < config.episodes:
                if jobs.pop(0).result():
                    have, done = have + 1, done + 1
                    tell(done, total)
                elif (seed := next(spare, None)) is not None:
                    jobs.append(pool.submit(_demonstrate_one, config, out, task, seed))
            if have < config.episodes:
                raise UserError(
                    f"the expert of {task} succeeded {have} times in {len(seeds)} tries, fewer than the "
                    f"{config.episodes} episodes asked for"
                )
    return total


def chunk_targets(trace: Trace, step: int, chunk: int) -> Float32[np.ndarray, "H 7"]:
    """Where the commands from a step on lead, as seen from the tool pose measured before it.

    Beyond the end of the rollout its last command stays.
    """
    here = trace.tcp_poses[step].astype(np.float64)
    rows: list[list[float]] = []
    for at in range(step, step + chunk):
        last = min(at, len(trace) - 1)
        delta = poses.delta_between(here, trace.targets[last].astype(np.float64))
        rows.append([*delta.tolist(), float(trace.gripper_commands[last])])
    return np.array(rows, dtype=np.float32)


class KeyframesOf(NamedTuple):
    """The keyframes of a demonstration: where the gripper is told to open or close, and the end.

    So they are found by James and Davison 2022, "Q-attention".

    Attributes:
        rows: The moments.
        following: Which is the next one, at each moment; the end stays it. One is past once the fingers have
            gone half of their way: when they were told, nobody sees.
        told: Whether the gripper has been told at the next one already, at each moment.
    """

    rows: Int64[np.ndarray, "K"]
    following: Int64[np.ndarray, "N"]
    told: Bool[np.ndarray, "N"]


def keyframes_of(gripper: Float32[np.ndarray, "N"], widths: Float32[np.ndarray, "N"]) -> KeyframesOf:
    """The keyframes of a demonstration.

    Args:
        gripper: What the gripper was told at each moment, positive to open.
        widths: Its opening at each moment, metres.
    """
    last = len(gripper) - 1
    changes = np.flatnonzero(np.diff(np.sign(gripper))) + 1
    told = np.zeros(len(gripper), dtype=bool)
    past: list[int] = []
    for first, until in pairwise([*changes.tolist(), last + 1]):
        way = np.abs(widths[first:until] - widths[first - 1])
        past.append(first + int(np.argmax(way >= 0.5 * way[-1])))
        told[first : past[-1]] = True
    following = np.searchsorted(np.array(past, dtype=np.int64), np.arange(len(gripper)), side="right")
    return KeyframesOf(np.append(changes, last), following, told)


_tasks: dict[str, Task] = {}
"""The simulators of a process: making one costs a second."""


def _demonstrate_one(config: DemonstrationConfig, out: Path, task_name: str, seed: int) -> bool:
    """Record and render one episode; whether the expert succeeded."""
    path = out / task_name / f"{seed:08d}.npz"
    if path.exists():
        return True
    if task_name not in _tasks:
        _tasks[task_name] = load_task(task_name)
    task = _tasks[task_name]
    nominal = run_nominal(task, seed)
    if not nominal.record.success:
        return False
    trace, simulator = nominal.trace, task.simulator
    steps = range(0, len(trace), config.stride)
    cameras = [simulator.camera(view) for view in config.views]
    frames = np.empty((len(steps), len(cameras), config.size, config.size, 3), dtype=np.uint8)
    for row, step in enumerate(steps):
        simulator.restore(trace.states[step])
        frames[row] = simulator.render(cameras, config.size)
    buffer = io.BytesIO()
    np.save(buffer, frames, allow_pickle=False)
    write_atomically(path.with_suffix(".npy"), buffer.getvalue())
    arrays = {
        "tcp_poses": trace.tcp_poses[list(steps)],
        "gripper_widths": trace.gripper_widths[list(steps)],
        "actions": np.stack([chunk_targets(trace, step, config.chunk) for step in steps]),
    }
    write_atomically(path, pack(arrays))
    return True
