"""Meta-World's policies as experts: asked from any state, cut into stages, and generated from."""

import numpy as np
import pytest

pytest.importorskip("metaworld")

from failsafe.datasets.store import Dataset
from failsafe.experts.metaworld import branch_function, policy_class
from failsafe.experts.tasks import load_task
from failsafe.generation.nominal import run_nominal
from failsafe.rollouts.branching import branch

pytestmark = pytest.mark.metaworld


@pytest.fixture(scope="module")
def pick():
    return load_task("metaworld/pick-place-v3")


@pytest.fixture(scope="module")
def nominal(pick):
    return run_nominal(pick, 0)


def test_a_rollout_is_cut_where_the_policy_takes_another_branch(nominal):
    assert nominal.record.success
    names = [stage.name for stage in nominal.record.plan.stages]
    assert names[0] == "approach"
    assert "close gripper" in names
    assert "carry" in names
    assert len(names) <= 7
    assert any("puck" in span.held for span in nominal.record.spans)


def test_an_articulated_task_has_stages_that_move_the_part():
    nominal = run_nominal(load_task("metaworld/drawer-open-v3"), 0)
    assert nominal.record.success
    assert "slide" in [stage.name for stage in nominal.record.plan.stages]


def test_the_policy_goes_on_from_the_middle_with_the_object_dropped(pick, nominal):
    step = nominal.record.spans[0].stop
    branched = branch(pick.simulator, 0, nominal.trace, step, more_steps=200)
    assert branched.exact
    pick.expert.solve(branched.runner)
    branched.runner.settle()
    assert pick.simulator.evaluate().success


def test_branches_are_those_of_the_source():
    cls = policy_class("metaworld/pick-place-v3")
    which = branch_function(cls)
    policy = cls()
    seen = np.zeros(39)
    seen[:4] = [0.0, 0.6, 0.2, 1.0]  # hand, open
    seen[4:7] = [0.1, 0.6, 0.02]  # puck aside
    seen[-3:] = [0.0, 0.8, 0.2]
    aside = which(policy, seen)
    seen[4:7] = [0.005, 0.6, 0.02]  # puck below
    below = which(policy, seen)
    seen[2], seen[3] = 0.05, 0.5  # at the puck, closed
    assert len({aside, below, which(policy, seen)}) == 3


def test_failures_are_generated_and_proven_by_restored_branches(tmp_path):
    import failsafe as fs

    data = fs.generate(
        "metaworld/pick-place-v3",
        modes=["translation_x", "object_pushed", "misperceived_position"],
        failures=2,
        labels=1,
        verify_rollouts=1,
        out=tmp_path / "mw",
        executor="serial",
    )
    cases = [case for case in Dataset(data.path).cases() if any(label.correction for label in case.labels)]
    assert len(cases) >= 2
    for case in cases:
        proof = case.labels[0].verification
        assert proof.prefix_exact
        assert proof.branch.value == "restore"
        assert Dataset(data.path).find(case.case_id) == case
