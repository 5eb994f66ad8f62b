"""A small study made by hand: two tasks, two scenarios, every change that a monitor can make."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from failsafe.datasets.frame_grids import FrameIndex, TraceFrames, columns_for, encode_grid, grid_path
from failsafe.evaluation.config import StudyConfig, StudyItem
from failsafe.evaluation.replay_videos import ReplayVideo, video_folder
from failsafe.evaluation.results import Results
from failsafe.monitors.calibration import Calibration, Threshold
from failsafe.records.episode import Ending, Episode, EpisodeKey
from failsafe.records.event import Event, EventKind
from failsafe.simulators.contract import Camera

PICK, PUSH = "ToyPick-v0", "ToyPush-v0"
POLICY = "reference:<b>weak</b>"
INSTRUCTION = "pick up the box</script>"
CONFIG = StudyConfig(
    tasks=(PICK, PUSH),
    policies=(POLICY,),
    monitor="compact",
    first_seed=0,
    last_seed=10,
    scenarios=("nominal", "noise"),
    calibrations={
        POLICY: Calibration(
            0.05, "compact", POLICY, 2.0, {INSTRUCTION: Threshold(0.625, 93), "push": Threshold(None, 7)}
        )
    },
)
SIZE = 32


def episode(
    seed: int, success: bool, condition: str = "never", task: str = PICK, scenario: str = "nominal", events=()
):
    ending = Ending.SUCCESS if success else Ending.FAILURE
    steps = 60 if success else 250
    key = EpisodeKey(task, scenario, POLICY, condition, seed)
    return Episode(key, INSTRUCTION, ending, steps, steps / 20, 0.5, 0.6, tuple(events))


def watched(at: int | None, mode: str = "slip", acts: bool = True) -> list[Event]:
    """Looks every ten steps, an alarm on one of them, and what follows it."""
    events: list[Event] = []
    for step in range(10, 60, 10):
        score = 0.9 if at is not None and step >= at else 0.2
        events.append(Event(step, EventKind.QUERY, score, 0.625, score, "lift", mode))
        if step == at:
            events.append(Event(step, EventKind.ALARM, score, 0.625, score, "lift", mode))
            if acts:
                events.append(Event(step, EventKind.TAKE_OVER, score, 0.625, score, "lift", mode, 4))
                events.append(Event(step + 3, EventKind.HAND_BACK))
            else:
                events.append(Event(step, EventKind.HELP, description="the model sees no way back"))
    return events


def make_episodes() -> list[Episode]:
    """Ten seeds: alone 4 succeed; 3 are rescued, 1 is harmed, 1 success sees an alarm, 3 still fail."""
    found: list[Episode] = []
    for task in (PICK, PUSH):
        for scenario in ("nominal", "noise"):
            at = {"task": task, "scenario": scenario}
            found += [episode(seed, seed < 4, **at) for seed in range(10)]
            events = [watched(None)] * 2 + [watched(20), watched(30, "no_op")]
            events += [watched(20), watched(30), watched(50, "no_op"), watched(40), watched(40, acts=False)]
            events += [watched(None)]
            success = [True, True, True, False, True, True, True, False, False, False]
            found += [
                episode(i, s, "monitor", events=e, **at)
                for i, (s, e) in enumerate(zip(success, events, strict=True))
            ]
    return found


def make_results(folder: Path) -> Results:
    results = Results(folder)
    results.begin(CONFIG)
    for made in make_episodes():
        results.write(made)
    return results


def make_video(folder: Path, seed: int, endings: tuple[Ending, ...]) -> ReplayVideo:
    """Frames of plain colours that get brighter; the monitor's are greener."""
    cell = StudyItem(PICK, "nominal", POLICY, seed)
    cameras = tuple(Camera(name, (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0)) for name in ("front", "hand"))
    reels: list[TraceFrames] = []
    for condition, ending in zip(("never", "monitor"), endings, strict=True):
        last = 60 if ending is Ending.SUCCESS else 250
        steps = (*range(0, last, 4), last)
        columns = columns_for(len(steps), SIZE)
        for number, camera in enumerate(cameras):
            frames = np.zeros((len(steps), SIZE, SIZE, 3), dtype=np.uint8)
            frames[..., 0] = np.linspace(40, 255, len(steps))[:, None, None]
            frames[..., 1] = 120 if condition == "monitor" else 0
            frames[..., 2] = 200 * number
            path = grid_path(video_folder(folder, cell), condition, camera.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_grid(frames, columns))
        reels.append(TraceFrames(condition, "0", steps, columns))
    return ReplayVideo(cell, FrameIndex(SIZE, 4, "", 20.0, cameras, tuple(reels)), endings)
