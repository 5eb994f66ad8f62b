"""What would make an evaluation fail or mean nothing is one sentence, before the first step."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation import bench
from tests.evaluation.bench import SPEC, Glance

import failsafe as fs
from failsafe.errors import FailSafeError, PolicyError
from failsafe.evaluation.config import StudyConfig
from failsafe.evaluation.notes import find_faults, notes
from failsafe.evaluation.preflight import check_calibrations
from failsafe.experts.toy import ToyPickExpert
from failsafe.monitors.calibration import Calibration, Threshold
from failsafe.simulators.contract import EpisodeSpec
from failsafe.simulators.toy import ToyPick

INSTRUCTION = ToyPick().episode.instruction


def task() -> fs.Task:
    return fs.Task(ToyPick(), ToyPickExpert(), "pick")


class Picky(Glance):
    """A model that knows one instruction and can locate one object."""

    name = "picky"
    instructions = ("pour the tea",)


class Crowded(Glance):
    name, max_objects = "crowded", 0


class Sideways(Glance):
    name, window_spec = "sideways", replace(SPEC, views=("front", "ceiling"))


class Trained(Glance):
    class meta:
        train_seeds = {"pick": (2, 3, 900)}  # noqa: RUF012 -- never changed


class Refusing(bench.Wanderer):
    def reset(self, instruction: str) -> None:
        raise PolicyError("the server speaks another protocol")


class Broken(bench.Wanderer):
    def reset(self, instruction: str) -> None:
        raise KeyError(instruction)


class Huge(bench.Wanderer):
    views = {"front": 10**6}  # noqa: RUF012 -- never changed


class Proprioceptive(bench.Wanderer):
    """Is sent a reading that the toy does not state, as a client with the preset for LIBERO."""

    readings = ("robot0_eef_pos",)


class Listed(bench.Wanderer):
    views = ["front"]  # noqa: RUF012 -- never changed


class Numbered(ToyPick):
    """States another instruction from every seed."""

    @property
    def episode(self) -> EpisodeSpec:
        episode = super().episode
        return replace(episode, instruction=f"{INSTRUCTION} {episode.seed}")

    def reset(self, seed: int, objects: Any = None) -> EpisodeSpec:
        super().reset(seed, objects)
        return self.episode


def thresholds(*instructions: str, **changes: Any) -> Calibration:
    found = {instruction: Threshold(0.5, 40) for instruction in instructions}
    return replace(Calibration(0.05, "glance", "wanderer", 2.0, found), **changes)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"model": Picky()}, f"instruction picky knows ('pour the tea'), got '{INSTRUCTION}' of pick: train"),
        ({"model": Crowded()}, "a task of at most 0 objects, which is what this model can locate, got pick"),
        (
            {"model": Sideways()},
            "a camera for each view of sideways, got none for ceiling; pick has the views",
        ),
        (
            {"model": Trained()},
            "glance was not trained on, got seed 2 of pick and 1 others: choose other seeds",
        ),
        (
            {"policy": Refusing()},
            "wanderer cannot begin an episode of pick: the server speaks another protocol",
        ),
        ({"policy": Broken()}, "wanderer cannot begin an episode of pick: KeyError: "),
        ({"policy": Listed()}, "expected the views of wanderer as a dictionary from the name of a camera to"),
        (
            {"policy": Proprioceptive()},
            "expected the readings robot0_eef_pos for wanderer, got none from this task's",
        ),
        ({"policy": Huge()}, "expected images of 1 to 4096 px for wanderer, got 1000000 for the view front"),
        (
            {"calibration": thresholds("pour the tea")},
            f"a threshold of wanderer for '{INSTRUCTION}' of pick, got some for 'pour the tea' alone",
        ),
        (
            {"calibration": thresholds(INSTRUCTION, seeds=(0, 2))},
            "seeds that no threshold was calibrated on, got 1:2, on which those of wanderer were",
        ),
        (
            {"calibration": thresholds(INSTRUCTION, policy_weights="another")},
            "from before a change of the weights or code of the policy wanderer: calibrate again",
        ),
        (
            {"seeds": range(4990, 5010)},
            "seeds of one role, got 4990:5010, of which 5000:5010 are for 'develop'",
        ),
        (
            {"seeds": range(900_000, 900_002)},
            "got the proof seeds 900000:900002 without one: freeze a protocol",
        ),
        ({"seeds": range(800_000, 800_002)}, "got 800000:800002, which are kept for calibration"),
    ],
)
def test_it_is_refused_before_the_first_step(
    arguments: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*_: Any) -> None:
        raise AssertionError("no step may be simulated")

    monkeypatch.setattr(ToyPick, "step", step)
    given = {"policy": bench.Wanderer(), "model": Glance(), "tasks": task(), "seeds": range(1, 4)} | arguments
    if "calibration" not in given:
        given["threshold"] = 1.0
    with pytest.raises(FailSafeError, match=re.escape(sentence)):
        fs.evaluate(out=tmp_path / "out", max_steps=3, **given)
    # What was refused leaves nothing behind that would refuse the corrected evaluation.
    monkeypatch.undo()
    fs.evaluate(
        bench.Wanderer(),
        Glance(),
        tasks=task(),
        seeds=range(1, 2),
        threshold=1.0,
        out=tmp_path / "out",
        max_steps=2,
    )


def test_a_policy_alone_needs_no_model_and_no_thresholds(tmp_path: Path) -> None:
    results = fs.evaluate(
        bench.Wanderer(),
        Picky(),
        tasks=task(),
        seeds=range(1),
        conditions=["never"],
        out=tmp_path,
        max_steps=2,
    )
    assert len(list(results.episodes())) == 1


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, ""),
        ({"weights": "of today", "policy_weights": "p", "code": {"failsafe": "0.0", "task a:b": "1"}}, ""),
        ({"weights": "of before"}, "the weights or code of the recovery model glance"),
        ({"weights": "python:a.B 12"}, ""),  # an object then, a name now: not the same kind
        ({"policy_weights": "q"}, "the weights or code of the policy"),
        ({"code": {"task a:b": "2", "task c:d": "3"}}, "the code of the task a:b"),
        ({"seeds": (4, 9)}, ""),
        ({"seeds": (3, 9)}, "got 3:4"),
    ],
)
def test_thresholds_are_of_the_code_of_today(changes: dict[str, Any], refused: str) -> None:
    config: StudyConfig = replace(
        bench.config(4, weights="of today", policy_weights={bench.POLICY: "p"}, code={"task a:b": "1"}),
        calibrations={bench.POLICY: thresholds(INSTRUCTION, **changes)},
    )
    if refused:
        with pytest.raises(FailSafeError, match=refused):
            check_calibrations(config)
    else:
        check_calibrations(config)


class Failing(Glance):
    """A model that fails at every query, or at all but the first."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first = first

    def assess(self, window: Any) -> Any:
        self.asked += 1
        if self.first and self.asked == 1:
            return super().assess(window)
        raise RuntimeError("out of memory")


def test_a_monitor_whose_queries_fail_is_told_loudly(tmp_path: Path) -> None:
    said: dict[bool, list[str]] = {}
    for first in (False, True):
        results = fs.evaluate(
            bench.Wanderer(),
            Failing(first),
            tasks=task(),
            seeds=range(2),
            threshold=1.0,
            out=tmp_path / str(first),
            max_steps=60,
        )
        (faults,) = find_faults(results.episodes())
        assert (faults.condition, faults.all_failed) == ("monitor", not first)
        assert faults.queries - faults.failed == first
        said[first] = notes(results.manifest, [faults])
    assert said[False][0].startswith("THE MONITOR DID NOTHING in pick, scenario nominal, with wanderer")
    assert "queries failed (RuntimeError: out of memory)" in said[False][0]
    assert re.match(r"\d+ of \d+ queries failed in pick, .* most often: RuntimeError", said[True][0])
    assert "The seeds 0:2 are seeds of the training range" in said[True][1]


def test_the_instructions_of_all_seeds_are_looked_at(tmp_path: Path) -> None:
    numbered = fs.Task(Numbered(), ToyPickExpert(), "numbered")
    known = thresholds(f"{INSTRUCTION} 1", f"{INSTRUCTION} 2")
    given: dict[str, Any] = {"tasks": numbered, "calibration": known, "max_steps": 2, "out": tmp_path}
    with pytest.raises(FailSafeError, match=f"a threshold of wanderer for '{INSTRUCTION} 3' of numbered"):
        fs.evaluate(bench.Wanderer(), Glance(), seeds=range(1, 4), **given)
    fs.evaluate(bench.Wanderer(), Glance(), seeds=range(1, 3), **given)
