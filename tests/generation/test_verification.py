"""Corrections that count as proven, carried out again by hand on the toy."""

import dataclasses

import numpy as np
import pytest

from failsafe.errors import PlanError
from failsafe.experts.contract import PlanExpert
from failsafe.experts.tasks import load_task
from failsafe.generation.candidates import CandidateStatistics
from failsafe.generation.continuations import ExpertContinuation
from failsafe.generation.nominal import run_nominal
from failsafe.generation.perturbed import run_perturbed
from failsafe.generation.verification import SCREENED_OUT, Verifier
from failsafe.records import poses
from failsafe.records.branches import BranchCounts, count_branches
from failsafe.records.case import BranchMethod, RecoveryStrategy
from failsafe.records.perturbation import Perturbation
from failsafe.rollouts import noise
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.contract import Exactness

DOWN = poses.pose([0.4, 0.0, 0.2], [0.0, 1.0, 0.0, 0.0])


def draw(mode, stage, magnitude, name="", direction=0.0, moment=0.0):
    return Perturbation(mode, stage, "", moment, magnitude, "", direction, name)


CASES = {
    "missed": ("ToyPick-v0", draw("translation_x", 0, 0.08), 34),
    "left open": ("ToyPick-v0", draw("gripper_stays_open", 2, 0.0), 40),
    "dropped": ("ToyPick-v0", draw("object_dropped", 4, 0.0, "box", moment=0.5), 50),
    "pushed": ("ToyPush-v0", draw("object_pushed", 1, 0.08, "box", direction=1.5), 25),
    "slipped": ("ToyPick-v0", draw("slip", 4, 0.03, "box"), 50),
    "wrong place": ("ToyStack-v0", draw("wrong_goal", 0, 0.1, "box_b"), 45),
}


def make_scenes(exactness):
    tasks = {name: load_task(name) for name in ("ToyPick-v0", "ToyPush-v0", "ToyStack-v0")}
    for task in tasks.values():
        task.simulator._spec = dataclasses.replace(task.simulator.spec, exactness=exactness)
    return {name: (task, run_nominal(task, 0)) for name, task in tasks.items()}


@pytest.fixture(scope="module", params=list(Exactness), ids=lambda e: e.value)
def scenes(request):
    """The toy's tasks, exact by restore as it declares, and as if it were exact by replay only."""
    return make_scenes(request.param)


@pytest.fixture(scope="module")
def replayed():
    return make_scenes(Exactness.REPLAY)


@pytest.fixture(scope="module")
def restored():
    return make_scenes(Exactness.RESTORE)


def fail(scenes, case):
    name, drawn, step = CASES[case]
    task, nominal = scenes[name]
    failing = run_perturbed(task, nominal, (drawn,))
    assert nominal.record.success
    assert not failing.success
    return task, nominal, failing, step


def prove(task, nominal, failing, step, rollouts):
    return Verifier(task, nominal, failing).prove(step, rollouts, np.random.default_rng(0))


def replay(task, seed, trace, steps):
    """Replay the prefix command by command, without a runner."""
    task.simulator.reset(seed)
    for step in range(steps):
        task.simulator.step(trace.commands[step], trace.disturbances_at(step))
    assert task.simulator.state().tobytes() == trace.states[steps].tobytes()


@pytest.mark.parametrize("case", CASES)
def test_a_proven_correction_is_one(scenes, case):
    task, nominal, failing, step = fail(scenes, case)
    proof = prove(task, nominal, failing, step, 1)
    correction, evidence = proof.label.correction, proof.label.verification
    assert evidence.proven
    assert (evidence.rollouts, evidence.successes, evidence.noise) == (1, 1, "")
    # without it, from the same state
    replay(task, 0, failing.trace, len(failing.trace))
    assert not task.simulator.evaluate().success
    # with it: the actions by hand, then the rest of the plan
    replay(task, 0, failing.trace, step)
    target = task.simulator.observe().tcp_pose
    for action in correction.actions:
        target = poses.apply_delta(target, action[:6])
        task.simulator.step(task.simulator.command(target, action[6]))
    rest = task.expert
    if correction.resume_index >= 0:
        rest = PlanExpert(nominal.record.plan, correction.resume_index)
        assert nominal.record.plan.stages[correction.resume_index].name == correction.resume_stage
    runner = RolloutRunner(task.simulator)
    runner.intended, runner.gripper = target, correction.actions[-1][6]
    rest.solve(runner)
    runner.settle()
    assert task.simulator.evaluate().success
    assert tuple(stage.name for stage in runner.stages) == correction.plan_stages
    # and that is the recovered rollout, bit for bit
    recovered = proof.recovered
    assert recovered.states[-1].tobytes() == task.simulator.state().tobytes()
    assert recovered.states[: step + 1].tobytes() == failing.trace.states[: step + 1].tobytes()
    assert len(recovered) == step + len(correction.actions) + runner.step_count
    # it is the shortest of those that were tried, and the shorter ones failed
    assert [a.success for a in evidence.attempts] == [False] * (len(evidence.attempts) - 1) + [True]
    counts = [a.actions for a in evidence.attempts]
    assert counts == sorted(counts)
    assert counts[-1] == len(correction.actions)


@pytest.mark.parametrize(
    ("case", "step", "on_nominal_path"),
    [("missed", 15, True), ("wrong place", 45, True), ("pushed", 25, False), ("slipped", 50, False)],
)
def test_the_way_back_depends_on_where_the_objects_are(scenes, case, step, on_nominal_path):
    task, nominal, failing, _ = fail(scenes, case)
    strategy = prove(task, nominal, failing, step, 1).label.correction.strategy
    assert (strategy is RecoveryStrategy.NOMINAL_PATH) is on_nominal_path


def test_what_is_out_of_reach_cannot_be_recovered(scenes):
    task, nominal = scenes["ToyPick-v0"]
    failing = run_perturbed(task, nominal, (draw("object_pushed", 0, 1.2, "box"),))
    proof = prove(task, nominal, failing, 30, 5)
    assert proof.recovered is proof.label.correction is None
    evidence = proof.label.verification
    assert not evidence.proven
    assert evidence.prefix_exact
    assert (evidence.with_succeeds, evidence.rollouts, evidence.recoverability) == (False, 0, None)
    assert evidence.cause_ended_succeeds is evidence.replanned_succeeds is None
    assert not evidence.needed
    assert not any(attempt.success for attempt in evidence.attempts)
    assert all(attempt.reason for attempt in evidence.attempts)


@pytest.mark.parametrize("at", [0, 7, 34])
def test_a_prefix_that_is_not_met_again_proves_nothing(replayed, at):
    task, nominal, failing, step = fail(replayed, "missed")
    states = failing.trace.states.copy()
    states[at, 9] = np.nextafter(states[at, 9], np.float32(1.0))  # one number, by its last bit
    tampered = dataclasses.replace(failing, trace=dataclasses.replace(failing.trace, states=states))
    proof = prove(task, nominal, tampered, step, 1)
    assert not proof.label.verification.prefix_exact
    assert not proof.label.verification.proven
    assert proof.label.correction is proof.recovered is None


def test_a_state_that_is_not_restored_proves_nothing(restored, monkeypatch):
    task, nominal, failing, step = fail(restored, "missed")
    put_back = task.simulator.restore

    def restore_by_a_bit(state):
        state = state.copy()
        state[9] = np.nextafter(state[9], np.float32(1.0))
        put_back(state)

    monkeypatch.setattr(task.simulator, "restore", restore_by_a_bit)
    proof = prove(task, nominal, failing, step, 1)
    assert not proof.label.verification.prefix_exact
    assert not proof.label.verification.proven
    assert proof.label.correction is proof.recovered is None


def test_what_is_tampered_with_after_the_moment_does_no_harm(scenes):
    task, nominal, failing, step = fail(scenes, "missed")
    states = failing.trace.states.copy()
    states[step + 1] = 0.0
    later = dataclasses.replace(failing, trace=dataclasses.replace(failing.trace, states=states))
    assert prove(task, nominal, later, step, 1).label.verification.prefix_exact


def test_a_rollout_that_succeeds_needs_no_correction(scenes):
    task, nominal, failing, step = fail(scenes, "missed")
    proof = prove(task, nominal, dataclasses.replace(failing, success=True), step, 1)
    assert not proof.label.verification.proven


def test_recoverability_counts_noisy_rollouts(scenes):
    task, nominal, failing, step = fail(scenes, "missed")
    label = prove(task, nominal, failing, step, 5).label
    assert label.verification.rollouts == 5
    assert 1 <= label.verification.successes <= 5
    assert label.verification.recoverability == label.verification.successes / 5
    assert "2 mm and 1 degree" in label.verification.noise
    assert prove(task, nominal, failing, step, 5).label == label


def test_noise_that_spoils_everything_leaves_the_exact_rollout_alone(scenes, monkeypatch):
    monkeypatch.setattr(noise, "_NOISE", np.full(6, 0.3))
    task, nominal, failing, step = fail(scenes, "missed")
    evidence = prove(task, nominal, failing, step, 5).label.verification
    assert (evidence.rollouts, evidence.successes, evidence.recoverability) == (5, 1, 0.2)
    assert evidence.proven


def test_the_record_says_how_its_branches_were_made(replayed, restored):
    for scenes, method in ((replayed, BranchMethod.REPLAY), (restored, BranchMethod.RESTORE)):
        evidence = prove(*fail(scenes, "missed"), 3).label.verification
        # The proof as the simulator declares; noisy rollouts from a restored state in either case.
        assert (evidence.branch, evidence.noisy_branch) == (method, BranchMethod.RESTORE)
        alone = prove(*fail(scenes, "missed"), 1).label.verification
        assert (alone.branch, alone.noisy_branch) == (method, None)


def test_noisy_rollouts_replay_where_a_restored_state_is_another_one(replayed, monkeypatch):
    task, nominal, failing, step = fail(replayed, "missed")
    monkeypatch.setattr(task.simulator, "restore", lambda state: None)  # the task keeps more than its state
    verifier = Verifier(task, nominal, failing)
    assert not verifier.restores_closely
    evidence = verifier.prove(step, 3, np.random.default_rng(0)).label.verification
    assert (evidence.branch, evidence.noisy_branch) == (BranchMethod.REPLAY, BranchMethod.REPLAY)
    assert evidence.proven


def test_both_methods_prove_the_same(replayed, restored):
    by_replay, by_restore = (prove(*fail(scenes, "slipped"), 4) for scenes in (replayed, restored))
    assert by_replay.label.correction == by_restore.label.correction
    assert by_replay.label.verification.attempts == by_restore.label.verification.attempts
    assert by_replay.recovered.same_states(by_restore.recovered)
    assert by_replay.recovered.commands.tobytes() == by_restore.recovered.commands.tobytes()


def test_what_fails_screening_gets_no_exact_branch(replayed):
    """A strategy that has always failed is screened, from the second candidate of a label on."""
    task, nominal, failing, step = fail(replayed, "missed")
    plain = prove(task, nominal, failing, step, 1).label.verification.attempts
    statistics = CandidateStatistics()
    for strategy in RecoveryStrategy:
        statistics._tries[("", strategy)] = statistics._failures[("", strategy)] = 100
    proof = Verifier(task, nominal, failing, statistics).prove(step, 1, np.random.default_rng(0))
    attempts = proof.label.verification.attempts
    assert [(a.strategy, a.actions, a.success) for a in attempts] == [
        (a.strategy, a.actions, a.success) for a in plain
    ]
    assert len(attempts) > 1
    assert not attempts[0].screened
    assert all(a.screened and a.reason == SCREENED_OUT for a in attempts[1:-1])
    assert not attempts[-1].screened  # it passed, and was then proven exactly
    assert proof.label.verification.proven


def settle_and_judge(task, runner):
    runner.settle()
    return task.simulator.evaluate().success


@pytest.mark.parametrize(
    ("case", "step", "cause_ended", "replanned"),
    [
        ("missed", 10, True, None),  # the rest of the stage leads to the right place
        ("missed", 34, False, True),
        ("left open", 34, False, True),
        ("pushed", 22, False, True),
        ("slipped", 22, True, None),  # it has not slipped yet
    ],
)
def test_the_branches_without_a_correction_are_those_carried_out_by_hand(
    scenes, case, step, cause_ended, replanned
):
    task, nominal, failing, _ = fail(scenes, case)
    evidence = prove(task, nominal, failing, step, 1).label.verification
    assert evidence.proven
    assert (evidence.cause_ended_succeeds, evidence.replanned_succeeds) == (cause_ended, replanned)
    assert (evidence.continuation, evidence.without_samples, evidence.needed) == ("expert", 1, False)
    replay(task, 0, failing.trace, step)
    runner = RolloutRunner(task.simulator)
    runner.gripper = float(failing.trace.gripper_commands[step - 1])
    PlanExpert(nominal.record.plan, int(failing.trace.stages[step])).solve(runner)
    assert settle_and_judge(task, runner) is cause_ended
    if replanned is not None:
        replay(task, 0, failing.trace, step)
        runner = RolloutRunner(task.simulator)
        task.expert.solve(runner)
        assert settle_and_judge(task, runner) is replanned


class PlansFromHome:
    """The expert of a task, which has a plan only from above."""

    def __init__(self, expert):
        self._expert = expert

    def solve(self, runner):
        if runner.observation.tcp_pose[2] < 0.15:
            raise PlanError("expected the tool above")
        self._expert.solve(runner)


def test_a_correction_is_needed_where_neither_the_plan_nor_a_new_one_succeeds(scenes):
    task, nominal, failing, _ = fail(scenes, "missed")
    task = dataclasses.replace(task, expert=PlansFromHome(task.expert))
    absorbed, needed = (prove(task, nominal, failing, step, 1).label for step in (10, 34))
    assert absorbed.proven
    assert not absorbed.needed
    assert absorbed.verification.cause_ended_succeeds is True
    assert needed.proven
    assert needed.needed
    assert needed.correction.strategy is RecoveryStrategy.NOMINAL_PATH
    assert count_branches([absorbed, needed]) == BranchCounts(2, cause_ended=1, replanned=0, needed=1)


class CoinFlip:
    """A continuation that plans anew with success every second time, and never goes on."""

    name, samples = "coin", 4

    def __init__(self, expert):
        self._expert, self.asked = expert, 0

    def hooks(self):
        return ()

    def more_steps(self, step):
        return self._expert.more_steps(step)

    def go_on(self, runner, step):
        raise PlanError("it never goes on")

    def plan_anew(self, runner):
        self.asked += 1
        if self.asked < self.succeeds_at:
            raise PlanError("not this time")
        self._expert.plan_anew(runner)

    def finish(self, runner, candidate):
        self._expert.finish(runner, candidate)


@pytest.mark.parametrize(("succeeds_at", "replanned", "asked"), [(3, True, 3), (5, False, 4)])
def test_a_continuation_of_chance_is_sampled(restored, succeeds_at, replanned, asked):
    task, nominal, failing, step = fail(restored, "missed")
    coin = CoinFlip(ExpertContinuation(task, nominal, failing.trace))
    coin.succeeds_at = succeeds_at
    verifier = Verifier(task, nominal, failing, continuation=coin)
    evidence = verifier.prove(step, 1, np.random.default_rng(0)).label.verification
    assert evidence.proven
    assert (evidence.continuation, evidence.without_samples) == ("coin", 4)
    assert (evidence.cause_ended_succeeds, evidence.replanned_succeeds) == (False, replanned)
    assert evidence.needed is not replanned
    assert coin.asked == asked


@pytest.mark.parametrize(
    ("case", "over"), [("pushed", True), ("slipped", True), ("missed", False), ("left open", False)]
)
def test_where_the_cause_is_over_the_recorded_rollout_is_the_second_branch(restored, case, over):
    task, nominal, failing, step = fail(restored, case)
    assert failing.cause_is_over(step) is over
    evidence = prove(task, nominal, failing, step, 1).label.verification
    # Run all the same, the branch ends as the recorded rollout did.
    again = dataclasses.replace(failing, last_cause_step=None)
    assert prove(task, nominal, again, step, 1).label.verification == evidence
    if over:
        assert evidence.cause_ended_succeeds is False
        assert not failing.cause_is_over(failing.last_cause_step)
