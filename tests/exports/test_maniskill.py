"""ManiSkill's own replay accepts the exported rollouts, and they end as labelled."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import failsafe as fs
from failsafe.errors import UserError

pytestmark = pytest.mark.maniskill


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[fs.Dataset, Path, dict[str, int]]:
    folder = tmp_path_factory.mktemp("maniskill")
    modes = ["translation_x", "object_dropped"]
    data = fs.generate(
        "PickCube-v1", failures=3, modes=modes, labels=1, verify_rollouts=1, compound=0.0, workers=1,
        executor="serial", out=folder / "data",
    )  # fmt: skip
    counts = fs.export(data, "maniskill", folder / "out")
    return data, folder / "out" / "PickCube-v1", dict(counts)


def episodes_of(folder: Path) -> list[dict]:
    return json.loads((folder / "trajectory.json").read_text())["episodes"]


@pytest.mark.slow
def test_every_rollout_is_exported_or_counted_as_left_out(
    exported: tuple[fs.Dataset, Path, dict[str, int]],
) -> None:
    import h5py

    data, folder, counts = exported
    disturbed = [c for c in data.cases() if data.traces(c.task, c.case_id)["failing"].disturbances]
    assert 0 < len(disturbed) < len(list(data.cases()))
    assert counts["failing rollouts with disturbances left out"] == len(disturbed)
    kinds = Counter(episode["failsafe"]["rollout"] for episode in episodes_of(folder))
    assert {f"{kind} rollouts": number for kind, number in kinds.items()} == {
        what: number for what, number in counts.items() if not what.endswith("left out")
    }
    assert set(kinds) == {"nominal", "failing", "recovered"}
    with h5py.File(folder / "trajectory.h5") as file:
        assert set(file) == {f"traj_{i}" for i in range(sum(kinds.values()))}
        for episode in episodes_of(folder):
            group = file[f"traj_{episode['episode_id']}"]
            steps = episode["elapsed_steps"]
            assert group["actions"].shape == (steps, 8)
            assert group["actions"].dtype == np.float32
            for name in ("terminated", "truncated", "success"):
                assert group[name].shape == (steps,)
                assert group[name].dtype == bool
            assert group["success"][-1] == episode["success"]
            assert episode["success"] == (episode["failsafe"]["rollout"] != "failing")
            if case_id := episode["failsafe"].get("case"):
                case = data.case("PickCube-v1", case_id)
                assert episode["failsafe"]["modes"] == [p.mode for p in case.perturbations]
                assert episode["episode_seed"] == case.seed


@pytest.mark.slow
def test_replay_trajectory_succeeds_on_all_but_the_failing_rollouts(
    exported: tuple[fs.Dataset, Path, dict[str, int]],
) -> None:
    _, folder, _ = exported
    command = ["-m", "mani_skill.trajectory.replay_trajectory", "--traj-path", str(folder / "trajectory.h5")]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    output = done.stdout + done.stderr
    failed = {int(number) for number in re.findall(r"Episode (\d+) is not replayed successfully", output)}
    failing = {e["episode_id"] for e in episodes_of(folder) if e["failsafe"]["rollout"] == "failing"}
    assert failed == failing
    assert f"Replayed {len(episodes_of(folder))} episodes" in output


def test_a_dataset_without_tasks_of_maniskill_is_refused(tmp_path: Path) -> None:
    modes = ["translation_x"]
    data = fs.generate(
        "ToyPick-v0", failures=1, modes=modes, labels=1, verify_rollouts=1, workers=1, out=tmp_path / "data"
    )
    with pytest.raises(UserError, match="tasks of ManiSkill, got the tasks ToyPick-v0"):
        fs.export(data, "maniskill", tmp_path / "out")
    assert not (tmp_path / "out").exists()
