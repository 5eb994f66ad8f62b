"""Demonstrations from a dataset, and a policy that is trained further on them, on the toy."""

from dataclasses import replace

import numpy as np
import pytest

from failsafe.cli.demonstrate import demonstrate
from failsafe.cli.execution import Execution
from failsafe.cli.imitate import imitate
from failsafe.datasets.build import build_dataset
from failsafe.datasets.store import Dataset
from failsafe.errors import UserError
from failsafe.execution.serial import SerialExecutor
from failsafe.experts.tasks import load_task
from failsafe.generation.config import GenerationConfig, default_modes
from failsafe.policies.reference import load_reference
from failsafe.records.case import EXPERT
from failsafe.samples.demonstrate import build_demonstrations
from failsafe.samples.demonstrations import DemonstrationConfig, DemonstrationSet, _last_keyframes
from failsafe.samples.recoveries import build_recovery_demonstrations, find_recoveries
from failsafe.samples.targets import KeyframeIndex, chunk_targets
from failsafe.training.imitation import train_reference
from failsafe.training.imitation_config import ImitationTraining

CONFIG = DemonstrationConfig(
    (), 0, views=("side", "front", "hand"), size=32, stride=8, chunk=8, dataset="data"
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("recoveries") / "data"
    modes = default_modes(("object_dropped",))
    config = GenerationConfig(("ToyPick-v0",), failures=3, modes=modes, labels=1, verify_rollouts=1)
    build_dataset(config, path, executor=SerialExecutor())
    return Dataset(path)


@pytest.fixture(scope="module")
def folder(dataset):
    out = dataset.path.parent / "recoveries"
    done = []
    made = build_recovery_demonstrations(
        dataset.path, CONFIG, out, SerialExecutor(), lambda *at: done.append(at)
    )
    assert done[-1] == (made, made)
    return out


def test_every_proven_recovery_is_a_demonstration_from_its_correction_on(dataset, folder):
    proven = {
        (case.seed, f"{case.case_id.rpartition('-')[2]}-{label.step:04d}"): (case, label)
        for case in dataset.cases()
        for label in case.labels
        if label.proven and label.verification.continuation == EXPERT
    }
    assert len(proven) >= 3
    stored = {path.stem for path in (folder / "ToyPick-v0").glob("*.npz")}
    seeds = {seed for seed, _ in proven}
    assert stored == {f"{seed:08d}-{name}" for seed, name in proven} | {f"{seed:08d}" for seed in seeds}
    data = DemonstrationSet(folder)
    assert set(data.seeds) == seeds
    assert data.manifest.found == {"ToyPick-v0": len(stored)}
    assert data.manifest.config.dataset.startswith("failsafe generate ToyPick-v0")
    (seed, name), (case, label) = min(proven.items())
    first = sorted(path.name for path in (folder / "ToyPick-v0").glob("*.npz"))[0]
    assert first == f"{seed:08d}-{name}.npz", "so its rows are the first ones"
    trace = dataset.traces("ToyPick-v0", case.case_id)[label.recovery]
    np.testing.assert_array_equal(data.tcp_poses[0], trace.tcp_poses[label.step])
    np.testing.assert_array_equal(data.actions[1], chunk_targets(trace, label.step + 8, 8))
    simulator = load_task("ToyPick-v0").simulator
    simulator.reset(seed)
    simulator.restore(trace.states[label.step])
    cameras = [simulator.camera(view) for view in ("front", "side")]
    two = DemonstrationSet(folder, views=("front", "side"))
    np.testing.assert_array_equal(two.frames(0), simulator.render(cameras, 32))
    assert two.cameras("ToyPick-v0") == tuple(cameras)


def test_the_same_command_resumes_and_fewer_are_the_first(dataset, folder, tmp_path):
    made = DemonstrationSet(folder).manifest.found["ToyPick-v0"]
    lost = sorted((folder / "ToyPick-v0").glob("*-*.npz"))[-1]
    kept = lost.read_bytes()
    lost.unlink()
    with pytest.raises(UserError, match=f"expected {made} demonstrations of ToyPick-v0"):
        DemonstrationSet(folder)
    build_recovery_demonstrations(dataset.path, CONFIG, folder, SerialExecutor())
    assert lost.read_bytes() == kept
    few = find_recoveries(dataset, most=2)
    assert sum(len(state.recoveries) - 1 for state in few) == 2
    every = [(s.seed, r) for s in find_recoveries(dataset) for r in s.recoveries if r.case_id]
    assert [(s.seed, r) for s in few for r in s.recoveries if r.case_id] == every[:2]
    with pytest.raises(UserError, match="expected proven recoveries of ToyPush-v0"):
        build_recovery_demonstrations(
            dataset.path, replace(CONFIG, tasks=("ToyPush-v0",)), tmp_path, SerialExecutor()
        )
    with pytest.raises(UserError, match="without hand_2: make them with"):
        DemonstrationSet(folder, views=("front", "hand_2"))


def test_keyframes_of_a_recovery_are_numbered_from_its_end():
    opened = KeyframeIndex(np.array([2, 6, 9]), np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 2]), np.zeros(10, bool))
    last = _last_keyframes(opened, 2)  # it opens the gripper, grasps, and ends; a nominal rollout has two
    assert last.rows.tolist() == [6, 9]
    assert last.following.tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]
    held = _last_keyframes(KeyframeIndex(np.array([9]), np.zeros(10, np.int64), np.zeros(10, bool)), 2)
    assert held.rows.tolist() == [9, 9]
    assert set(held.following.tolist()) == {1}


def test_a_policy_that_is_trained_further_starts_as_its_base(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    base = tmp_path / "base.safetensors"
    nominal = DemonstrationConfig(
        ("ToyPick-v0",), 2, first_seed=600_000, views=("front", "hand"), size=32, stride=8
    )
    build_demonstrations(nominal, tmp_path / "nominal", SerialExecutor())
    settings = ImitationTraining(steps=2, batch=8, keyframes=True)
    train_reference(DemonstrationSet(tmp_path / "nominal"), settings, base, lambda *_: None)
    out = tmp_path / "further.safetensors"
    assert imitate(folder, out, steps=1, batch=8, base=f"reference:{base}") == 0
    before, after = load_reference(str(base)), load_reference(str(out))
    apart = [
        float((mine - theirs).detach().abs().max())
        for mine, theirs in zip(before.net.parameters(), after.net.parameters(), strict=True)
    ]
    assert 0 < max(apart) < 0.01  # one step at a learning rate of 3e-4, not new random weights
    assert after.meta.config.views == ("front", "hand")
    assert after.meta.config.keyframes == before.meta.config.keyframes > 0
    trained_on = {*before.meta.train_seeds["ToyPick-v0"], *DemonstrationSet(folder).seeds}
    assert {*after.meta.train_seeds["ToyPick-v0"]} == trained_on
    assert after.meta.trained["dataset"].startswith("failsafe generate")
    lows = zip(after.meta.config.reach[0], before.meta.config.reach[0], strict=True)
    assert all(mine <= theirs for mine, theirs in lows)
    other = DemonstrationSet(folder, views=("front", "side"))
    with pytest.raises(UserError, match="with views"):
        train_reference(other, settings, tmp_path / "no.safetensors", lambda *_: None, before)


def test_the_verb_takes_a_dataset(dataset, folder, tmp_path, capsys):
    out = tmp_path / "few"
    assert (
        demonstrate(
            (), out, dataset.path, episodes=1, size=16, stride=9, execution=Execution(executor="serial")
        )
        == 0
    )
    assert "2 episodes" in capsys.readouterr().out
    assert DemonstrationSet(out).manifest.found == {"ToyPick-v0": 2}
    with pytest.raises(UserError, match="the dataset has seeds of its own"):
        demonstrate((), out, dataset.path, first_seed=3)
