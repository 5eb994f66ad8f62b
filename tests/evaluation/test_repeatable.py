"""The same evaluation twice gives the same episodes, whatever runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.evaluation import toy_study
from tests.evaluation.bench import POLICY, without_times

import failsafe as fs


def evaluate(out: Path, **given: Any) -> dict[str, Any]:
    fs.evaluate(out=out, **given)
    return without_times(out)


def test_toy_episodes_repeat_in_one_process_and_in_others(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "policy": POLICY,
        "model": "tests.evaluation.toy_study:TinyMonitor",
        "tasks": toy_study.PICK,
        "seeds": range(2),
        "scenarios": ("noise",),
        "perturbations": ("slip",),
        "conditions": ("never", "monitor"),
        "threshold": 0.0,
        "max_steps": 40,
    }
    once = evaluate(tmp_path / "once", executor="serial", **given)
    assert len(once) == 2 * 2 * 2
    assert evaluate(tmp_path / "again", executor="serial", **given) == once
    assert evaluate(tmp_path / "worker", workers=1, **given) == once


@pytest.mark.slow
@pytest.mark.maniskill
@pytest.mark.render
def test_a_maniskill_episode_repeats_with_its_monitor(tmp_path: Path) -> None:
    given: dict[str, Any] = {"tasks": "PickCube-v1", "seeds": range(5000, 5001), "max_steps": 80}
    once = evaluate(tmp_path / "once", policy="reference:weak", model="compact", executor="serial", **given)
    again = evaluate(tmp_path / "again", policy="reference:weak", model="compact", executor="serial", **given)
    assert len(once) == 2
    assert again == once
