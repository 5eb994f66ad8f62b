"""Films of a few telling episodes, with the monitor and without: nothing is stored, so they are run again.

```
films/TASK/SCENARIO/POLICY/SEED/film.json          what was filmed, and how it ended this time
films/TASK/SCENARIO/POLICY/SEED/ARM/CAMERA.webp    a sheet of frames, as in a dataset (`datasets.tables`)
```
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from failsafe.datasets.files import file_name, locked, write_atomically
from failsafe.datasets.frame_grids import FrameIndex, TraceFrames, columns_for, encode_grid, grid_path
from failsafe.datasets.frames import EVERY, SIZE
from failsafe.errors import FailSafeError
from failsafe.evaluation.conditions import MONITOR, NEVER
from failsafe.evaluation.config import StudyConfig, StudyItem
from failsafe.evaluation.paired import Change, Pair
from failsafe.evaluation.results import Results
from failsafe.evaluation.scenarios import scenario
from failsafe.evaluation.study import StudyJob
from failsafe.execution.contract import SILENT, Executor, Reporter, ignore
from failsafe.records import codec
from failsafe.records.episode import Ending, Episode
from failsafe.records.event import EventKind
from failsafe.simulators.contract import Camera, Simulator

KINDS = (Change.RESCUED, Change.HARMED, Change.FAILED)
"""What is worth a film: where a monitor leaves a success alone, there is nothing to see."""
VIEWS = ("front", "hand")
CONDITIONS = (NEVER, MONITOR)


@dataclass(frozen=True)
class ReplayVideo:
    """One initial state, filmed with the policy alone and with the monitor.

    Attributes:
        cell: Which one.
        frames: What there are frames of, by arm; None where none could be made.
        endings: How each arm ended this time.
        description: Why there are no frames.
    """

    cell: StudyItem
    frames: FrameIndex | None = None
    endings: tuple[Ending, ...] = ()
    description: str = ""

    def repeats(self, condition: str, recorded: Episode) -> bool:
        """Whether an arm ended as it is recorded, after as many steps."""
        i = CONDITIONS.index(condition)
        if self.frames is None:
            return False
        return self.endings[i] is recorded.ending and self.frames.traces[i].steps[-1] == recorded.steps


def choose(pairs: Sequence[Pair], number: int) -> list[Pair]:
    """At most so many pairs of each of `KINDS`, of every scenario, policy and task in turn.

    Args:
        pairs: All pairs, in a fixed order.
        number: How many of each kind.
    """
    chosen: list[Pair] = []
    for kind in KINDS:
        turns: Counter[tuple[str, str, str]] = Counter()
        ranked: list[tuple[bool, int, bool, int]] = []
        for i, pair in enumerate(pairs):
            if pair.change is kind:
                key = pair.alone.key
                group = (key.scenario, key.policy, key.task)
                # A failure that the monitor did nothing about shows little.
                idle = pair.under.count(EventKind.TAKE_OVER) == 0
                ranked.append((idle, turns[group], key.scenario != "nominal", i))
                turns[group] += 1
        chosen += [pairs[i] for *_, i in sorted(ranked)[:number]]
    return chosen


def video_folder(folder: Path, cell: StudyItem) -> Path:
    """Where the film of an initial state is."""
    return folder / file_name(cell.task) / cell.scenario / file_name(cell.policy) / f"{cell.seed:08d}"


def make_replay_videos(
    results: Results,
    pairs: Sequence[Pair],
    folder: Path,
    executor: Executor,
    on_progress: Callable[[int], None] = ignore,
) -> list[ReplayVideo]:
    """Film pairs that have not been filmed; where that fails, a film says why instead.

    Args:
        results: The study that they are of.
        pairs: What to film.
        folder: Where the films go.
        executor: Renders the videos.
        on_progress: Called with the number of films that have just been made.
    """
    if not pairs:
        return []
    cells = [StudyItem(k.task, k.scenario, k.policy, k.seed) for k in (pair.alone.key for pair in pairs)]
    job = ReplayVideoJob(results.manifest.config, results.path, folder)
    with locked(folder):
        todo = [cell for cell in cells if (found := job.read(cell)) is None or found.frames is None]
        on_progress(len(cells) - len(todo))
        executor.run(job, todo, lambda _: on_progress(1))
    return [video for cell in cells if (video := job.read(cell))]


class ReplayVideoJob:
    """What a process that films does.

    Args:
        config: What was evaluated.
        results: Folder of the results.
        folder: Where the films go.
    """

    def __init__(self, config: StudyConfig, results: Path, folder: Path) -> None:
        self._study, self._folder = StudyJob(config, results), folder

    def run(self, item: StudyItem, reporter: Reporter = SILENT) -> None:
        """Film an initial state."""
        try:
            video = self._video(item)
        except FailSafeError as error:  # a server that is down, a machine that cannot render
            video = ReplayVideo(item, description=str(error))
        except Exception as error:  # a page without one film is better than none
            video = ReplayVideo(item, description=f"{type(error).__name__}: {error}")
        self._write(video)

    def give_up(self, item: StudyItem, part: str = "") -> bool:
        """Say that filming has killed two processes."""
        self._write(ReplayVideo(item, description="the process died twice while at work on it"))
        return False

    def read(self, cell: StudyItem) -> ReplayVideo | None:
        """The film of an initial state, None where there is none."""
        file = video_folder(self._folder, cell) / "film.json"
        return codec.loads(ReplayVideo, file.read_text(), str(file)) if file.exists() else None

    def _write(self, video: ReplayVideo) -> None:
        file = video_folder(self._folder, video.cell) / "film.json"
        write_atomically(file, (codec.dumps(video) + "\n").encode())

    def _video(self, cell: StudyItem) -> ReplayVideo:
        simulator = self._study.task(cell).simulator
        spec = simulator.spec
        views = [view for view in VIEWS if view in spec.cameras] or list(spec.cameras[:1])
        cameras = [scenario(cell.scenario).camera(simulator.camera(view), cell.seed) for view in views]
        endings: list[Ending] = []
        reels: list[TraceFrames] = []
        for condition in CONDITIONS:
            states: list[np.ndarray] = []
            endings.append(self._study.episode(cell, condition, states).ending)
            states.append(simulator.state())
            reels.append(_reel(simulator, cameras, condition, states, video_folder(self._folder, cell)))
        index = FrameIndex(SIZE, EVERY, "", spec.embodiment.control_hz, tuple(cameras), tuple(reels))
        return ReplayVideo(cell, index, tuple(endings))


def _reel(
    simulator: Simulator,
    cameras: Sequence[Camera],
    condition: str,
    states: Sequence[Float32[np.ndarray, "S"]],
    folder: Path,
) -> TraceFrames:
    """Write the sheets of the episode that the simulator has just been through, one for each camera."""
    finite = [i for i, state in enumerate(states) if np.isfinite(state).all()]
    steps = sorted({*range(0, finite[-1], EVERY), finite[-1]})
    columns = columns_for(len(steps), SIZE)
    pictures = np.stack([simulator.render(cameras, SIZE, states[step]) for step in steps])
    for i, camera in enumerate(cameras):
        write_atomically(grid_path(folder, condition, camera.name), encode_grid(pictures[:, i], columns))
    digest = hashlib.sha256(np.stack(states).tobytes()).hexdigest()[:16]
    return TraceFrames(condition, digest, tuple(steps), columns)
