"""Replay videos of selected episodes, with the monitor and without.

A study stores no states, so the episodes run again:

```
videos/TASK/SCENARIO/POLICY/SEED/video.json               what was rendered, and the endings of the second run
videos/TASK/SCENARIO/POLICY/SEED/CONDITION/CAMERA.webp    a grid of frames (`datasets.frame_grids`)
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

from failsafe.datasets.files import file_name, remove_partials, write_atomically
from failsafe.datasets.frame_grids import FrameIndex, TraceFrames, columns_for, encode_grid, grid_path
from failsafe.datasets.frames import EVERY, SIZE
from failsafe.datasets.locks import locked
from failsafe.errors import FailSafeError, RecordError
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
from failsafe.records.files import check_inside, exists
from failsafe.records.names import check_seed
from failsafe.simulators.contract import Camera, Simulator

KINDS = (Change.RESCUED, Change.HARMED, Change.FAILED)
"""Kinds of pairs that get videos: where a monitor leaves a success alone, both episodes are the same."""
VIEWS = ("front", "hand")
CONDITIONS = (NEVER, MONITOR)


@dataclass(frozen=True)
class ReplayVideo:
    """The videos of one initial state, with the policy alone and with the monitor.

    Attributes:
        item: The initial state.
        frames: Index of the frames, one trace per condition; None if there are no videos.
        endings: Ending of each condition in the second run, in the order of `CONDITIONS`.
        description: Why there are no videos.
    """

    item: StudyItem
    frames: FrameIndex | None = None
    endings: tuple[Ending, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        """Refuse videos that are not of both conditions.

        Raises:
            RecordError: On such videos.
        """
        check_seed(self.item.seed)
        if self.frames is None:
            return
        whole = len(self.endings) == len(CONDITIONS) and all(t.steps for t in self.frames.traces)
        if not whole or [t.trace for t in self.frames.traces] != [*CONDITIONS]:
            raise RecordError(f"expected videos of {' and '.join(CONDITIONS)}, got others")

    def repeats(self, condition: str, recorded: Episode) -> bool:
        """Return whether a condition ended as recorded, after the same number of steps.

        Args:
            condition: Name of the condition.
            recorded: Record of the first run.
        """
        i = CONDITIONS.index(condition)
        if self.frames is None:
            return False
        return self.endings[i] is recorded.ending and self.frames.traces[i].steps[-1] == recorded.steps


def choose(pairs: Sequence[Pair], number: int) -> list[Pair]:
    """Choose pairs of each of `KINDS`, taking scenarios, policies and tasks in turn.

    Args:
        pairs: All pairs, in a fixed order.
        number: Largest number of pairs of each kind.
    """
    chosen: list[Pair] = []
    for kind in KINDS:
        turns: Counter[tuple[str, str, str]] = Counter()
        ranked: list[tuple[bool, int, bool, int]] = []
        for i, pair in enumerate(pairs):
            if pair.change is kind:
                key = pair.alone.key
                group = (key.scenario, key.policy, key.task)
                # Episodes in which the monitor intervened come first.
                idle = pair.under.count(EventKind.TAKE_OVER) == 0
                ranked.append((idle, turns[group], key.scenario != "nominal", i))
                turns[group] += 1
        chosen += [pairs[i] for *_, i in sorted(ranked)[:number]]
    return chosen


def video_folder(folder: Path, item: StudyItem) -> Path:
    """Return the folder of the videos of one item.

    Args:
        folder: Folder of all videos.
        item: The item.
    """
    names = (item.task, item.scenario, item.policy)
    return folder.joinpath(*map(file_name, names), f"{item.seed:08d}")


def make_replay_videos(
    results: Results,
    pairs: Sequence[Pair],
    folder: Path,
    executor: Executor,
    on_progress: Callable[[int], None] = ignore,
) -> list[ReplayVideo]:
    """Render the videos of pairs that have none. A failure is recorded in `ReplayVideo.description`.

    Args:
        results: Results of the study.
        pairs: Pairs of the study.
        folder: Folder of all videos.
        executor: Runs the episodes.
        on_progress: Called with the number of items that have just been done.

    Returns:
        The videos, in the order of the pairs.
    """
    if not pairs:
        return []
    items = [StudyItem(k.task, k.scenario, k.policy, k.seed) for k in (pair.alone.key for pair in pairs)]
    job = ReplayVideoJob(results.manifest.config, results.path, folder)
    check_inside(folder.parent, folder)
    with locked(folder):
        remove_partials(folder)
        todo = [item for item in items if (found := job.read(item)) is None or found.frames is None]
        on_progress(len(items) - len(todo))
        executor.run(job, todo, lambda _: on_progress(1))
    return [video for item in items if (video := job.read(item))]


class ReplayVideoJob:
    """Renders the videos of one item after the other.

    Args:
        config: Configuration of the study.
        results: Folder of the results.
        folder: Folder of all videos.
    """

    def __init__(self, config: StudyConfig, results: Path, folder: Path) -> None:
        self._study, self._folder = StudyJob(config, results), folder
        self.folders = (results, folder)

    def run(self, item: StudyItem, reporter: Reporter = SILENT) -> None:
        """Render the videos of an item. See `Job.run`."""
        try:
            video = self._video(item)
        except FailSafeError as error:  # a server that is down, a machine that cannot render
            video = ReplayVideo(item, description=str(error))
        except Exception as error:  # one video less must not cost the page
            video = ReplayVideo(item, description=f"{type(error).__name__}: {error}")
        self._write(video)

    def give_up(self, item: StudyItem, part: str = "") -> bool:
        """Record that the item killed its worker twice. See `Job.give_up`."""
        self._write(ReplayVideo(item, description="the process died twice during this episode"))
        return False

    def read(self, item: StudyItem) -> ReplayVideo | None:
        """Return the record of an item's videos, None if there is none."""
        file = video_folder(self._folder, item) / "video.json"
        return codec.read(ReplayVideo, file, within=self._folder) if exists(file) else None

    def _write(self, video: ReplayVideo) -> None:
        file = video_folder(self._folder, video.item) / "video.json"
        write_atomically(file, (codec.dumps(video) + "\n").encode(), self._folder)

    def _video(self, item: StudyItem) -> ReplayVideo:
        simulator = self._study.task(item).simulator
        spec = simulator.spec
        views = [view for view in VIEWS if view in spec.cameras] or list(spec.cameras[:1])
        cameras = [scenario(item.scenario).camera(simulator.camera(view), item.seed) for view in views]
        endings: list[Ending] = []
        traces: list[TraceFrames] = []
        for condition in CONDITIONS:
            states: list[np.ndarray] = []
            endings.append(self._study.episode(item, condition, states).ending)
            states.append(simulator.state())
            place = video_folder(self._folder, item)
            check_inside(self._folder, place)
            traces.append(_write_grids(simulator, cameras, condition, states, place))
        index = FrameIndex(SIZE, EVERY, "", spec.embodiment.control_hz, tuple(cameras), tuple(traces))
        return ReplayVideo(item, index, tuple(endings))


def _write_grids(
    simulator: Simulator,
    cameras: Sequence[Camera],
    condition: str,
    states: Sequence[Float32[np.ndarray, "S"]],
    folder: Path,
) -> TraceFrames:
    """Render the last episode of the simulator, and write one grid of frames per camera."""
    finite = [i for i, state in enumerate(states) if np.isfinite(state).all()]
    steps = sorted({*range(0, finite[-1], EVERY), finite[-1]})
    columns = columns_for(len(steps), SIZE)
    images = np.stack([simulator.render(cameras, SIZE, states[step]) for step in steps])
    for i, camera in enumerate(cameras):
        write_atomically(
            grid_path(folder, condition, camera.name), encode_grid(images[:, i], columns), folder
        )
    digest = hashlib.sha256(np.stack(states).tobytes()).hexdigest()[:16]
    return TraceFrames(condition, digest, tuple(steps), columns)
