"""Failures mined from policies on the toy: found, dated, compared and corrected, and proven by hand."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.mining.scripted import ASIDE, Aside, Shaky, Slow, Still

import failsafe as fs
from failsafe.cli import main
from failsafe.datasets.mined import MiningConfig, read_mined_manifest
from failsafe.datasets.store import Dataset
from failsafe.errors import PolicyError, StoreError, UserError
from failsafe.evaluation.episodes import EpisodeLimits, run_episode
from failsafe.evaluation.scenarios import SCENARIOS, scenario
from failsafe.execution.contract import Reporter
from failsafe.experts.tasks import load_task
from failsafe.mining import episode
from failsafe.mining.episode import mined_case_id
from failsafe.mining.job import Mined, MiningJob
from failsafe.mining.progress import ExpertSteps
from failsafe.mining.rollout import PolicyContinuation, PolicyDriver, run_policy
from failsafe.records.case import FAILING, FailureCase, Label, NearestFailure, Outcome
from failsafe.records.episode import Ending, EpisodeKey
from failsafe.records.observation import PolicyObservation
from failsafe.reports.coverage import coverage_table
from failsafe.reports.mining import mining_figures, mining_tables, mining_text, write_mining_page
from failsafe.rollouts.branching import branch
from failsafe.rollouts.runner import settle_steps
from failsafe.samples.manifest import SampleConfig
from failsafe.samples.select import select_samples
from failsafe.simulators.contract import Simulator

PICK = "ToyPick-v0"
SHORT = {"tasks": PICK, "max_steps": 120}
STILL = "tests.mining.scripted:Still"


@pytest.fixture(scope="module")
def task() -> fs.Task:
    return load_task(PICK)


@contextlib.contextmanager
def two_modes() -> Iterator[None]:
    """Compare with two modes alone: with all of them an episode takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        find = episode.find_nearest
        patch.setattr(episode, "find_nearest", lambda *given: find(*given[:4], ("no_op", "translation_x")))
        yield


@pytest.fixture
def few_modes() -> Iterator[None]:
    with two_modes():
        yield


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory, task: fs.Task) -> Dataset:
    """Four episodes of a policy that stops beside the box from odd seeds."""
    out = tmp_path_factory.mktemp("mined") / "aside"
    with two_modes():
        return fs.mine(Aside(task.simulator), tasks=[task], episodes=4, max_steps=120, out=out)


def content(dataset: Dataset) -> dict[str, bytes]:
    folder = dataset.path
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.npz")}


def labels_of(case: FailureCase, continuation: str) -> list[Label]:
    return [label for label in case.labels if label.verification.continuation == continuation]


def test_the_failures_of_the_policy_are_found(mined: Dataset) -> None:
    cases = {case.seed: case for case in mined.cases()}
    assert {seed: case.outcome for seed, case in cases.items()} == {
        0: Outcome.HARMLESS,
        1: Outcome.FAILURE,
        2: Outcome.HARMLESS,
        3: Outcome.FAILURE,
    }
    for case in cases.values():
        assert case.policy is not None
        assert (case.policy.name, case.policy.deterministic) == ("aside", True)
        assert "tests.mining.scripted.Aside" in case.policy.weights
        assert case.perturbations == ()
    for case in (cases[1], cases[3]):
        # It comes nearer for half a second, and then stands beside the box: as if it believed it to be there.
        assert case.times.onset_step == 10
        assert case.nearest is not None
        assert (case.nearest.mode, case.nearest.stage) == ("translation_x", "reach")
        assert case.nearest.distance < 0.005
        assert case.mode == "translation_x"
        assert min(label.step for label in case.labels) > 10


def test_corrections_are_proven_with_the_policy_and_with_the_expert(mined: Dataset, task: fs.Task) -> None:
    case = next(case for case in mined.cases() if case.seed == 1)
    traces = mined.traces(PICK, case.case_id)
    by_policy, by_expert = labels_of(case, "aside"), labels_of(case, "expert")
    assert len(by_policy) == len(by_expert) == 2
    assert case.best_labels == tuple(by_policy)
    driver = PolicyDriver(task, Aside(task.simulator))
    for label in by_policy:
        assert label.needed
        assert label.correction is not None
        assert not by_expert[0].needed  # the expert needs none
        for corrected in (True, False):
            going_on = branch(task.simulator, 1, traces[FAILING], label.step, more_steps=120)
            for row in label.correction.actions if corrected else ():
                going_on.runner.act(np.array(row[:6]), row[6])
            driver.reset(1)
            driver.drive(going_on.runner)
            going_on.runner.settle()
            assert task.simulator.evaluate().success is corrected
        # After its last action the tool is near the box, from where the policy goes on.
        recovered, end = traces[label.recovery], label.step + len(label.correction.actions)
        box = recovered.objects[end, task.simulator.episode.object_index("box"), :2]
        assert np.linalg.norm(recovered.tcp_poses[end, :2] - box) < ASIDE / 2


def test_episodes_are_those_of_an_evaluation(mined: Dataset, task: fs.Task) -> None:
    policy = Aside(task.simulator)
    for case in mined.cases():
        states: list[np.ndarray] = []
        key = EpisodeKey("aside", "never", PICK, "nominal", case.seed)
        ending = run_episode(task, policy, key, SCENARIOS["nominal"], EpisodeLimits(120), states).ending
        assert (ending is Ending.SUCCESS) is (case.outcome is Outcome.HARMLESS)
        trace = mined.traces(PICK, case.case_id)[FAILING]
        assert np.stack(states).tobytes() == trace.states[: len(states)].tobytes()


def test_samples_take_what_was_mined(mined: Dataset) -> None:
    samples = select_samples(
        [mined], SampleConfig(splits=("train", "validation", "calibration", "test"), failing_share=0.0)
    )
    failing = [sample for sample in samples if sample.failing]
    assert {sample.mode for sample in failing} == {"translation_x"}
    assert all(sample.recoverable and len(sample.actions) == 3 for sample in failing)
    assert {sample.kind.value for sample in samples} >= {"nominal", "harmless", "recovered"}


def test_the_page_says_how_it_fails(mined: Dataset) -> None:
    figures = mining_figures(mined)
    assert (figures["episodes"], figures["failures"], figures["labelled steps"]) == (4, 2, 4)
    assert (figures["corrections proven with the policy"], figures["needed with the policy"]) == (4, 4)
    assert (figures["corrections proven with the expert"], figures["needed with the expert"]) == (4, 0)
    text = mining_text(mined, 200)
    assert "2 of 4 (50%) (15%–85%)" in text
    assert "translation x" in text
    page = write_mining_page(mined).read_text(encoding="utf-8")
    assert "How aside fails" in page
    assert "1, 3" in page
    with pytest.raises(UserError, match=r"failures mined from a policy: its page is report\.html"):
        coverage_table(mined)


def test_shares_with_an_interval_count_episodes_not_their_labels(mined: Dataset) -> None:
    (table,) = (table for table in mining_tables(mined) if table.title == "Corrections")
    by_policy, by_expert = (dict(zip(table.head, row, strict=True)) for row in table.rows)
    both = {"failed episodes corrected", "with a needed correction"}
    assert {by_policy[name].text for name in both} == {"2 of 2 (100%)"}
    assert {by_policy[name].interval for name in both} == {"34%–100%"}
    assert by_expert["with a needed correction"].text == "0 of 2 (0%)"
    assert [by_policy[name].text for name in ("labelled steps", "proven", "needed")] == ["4"] * 3
    assert not any(cell.interval for name, cell in by_policy.items() if name not in both)


def edited(mined: Dataset, folder: Path, **changes: object) -> Dataset:
    """Return a copy whose failures differ."""
    copy = Dataset(folder / "edited")
    shutil.copytree(mined.path, copy.path)
    for case in list(copy.cases()):
        if case.outcome is Outcome.FAILURE:
            copy.write_case(dataclasses.replace(case, **changes), mined.traces(case.task, case.case_id))
    return copy


@pytest.mark.parametrize(
    ("millimetres", "mode", "reported"), [(50, "slip", "slip"), (51, "none", "none is near")]
)
def test_a_failure_that_is_not_near_names_no_mode(
    mined: Dataset, millimetres: int, mode: str, reported: str, tmp_path: Path
) -> None:
    far = edited(mined, tmp_path, nearest=NearestFailure("slip", "lift", 9, millimetres / 1000))
    splits = ("train", "validation", "calibration", "test")
    samples = select_samples([far], SampleConfig(splits=splits, failing_share=0.0))
    assert {sample.mode for sample in samples if sample.failing} == {mode}
    (table,) = (table for table in mining_tables(far) if table.title == "How it fails")
    assert {row[1].text for row in table.rows} == {reported}


def test_the_stage_reported_is_the_one_due_where_progress_stopped(mined: Dataset, tmp_path: Path) -> None:
    for case in mined.cases():
        if case.outcome is Outcome.FAILURE:
            record, trace = mined.nominal(case.task, case.seed)
            needed = dict(case.expert_steps)[case.times.onset_step or 0]
            assert record.plan.stages[int(trace.stages[len(trace) - needed])].name == "reach"
    later = [label for case in mined.cases() for label in case.labels][:2]
    labels = tuple(dataclasses.replace(label, stage="lift", recovery="") for label in later)
    (table,) = (t for t in mining_tables(edited(mined, tmp_path, labels=labels)) if t.title == "How it fails")
    assert [row[2].text for row in table.rows] == ["reach"]


def test_a_corrected_branch_has_no_more_time_than_the_episode(
    task: fs.Task, few_modes: None, tmp_path: Path
) -> None:
    """A policy that only needs longer fails at the limit of the episode; a correction does not extend it."""
    policy = Slow(task.simulator)
    assert run_policy(task, PolicyDriver(task, policy), 0, SCENARIOS["nominal"], 200).success
    made = fs.mine(policy, tasks=[task], episodes=1, max_steps=130, labels=1, out=tmp_path)
    (case,) = made.cases()
    assert case.outcome is Outcome.FAILURE
    traces, limit = made.traces(PICK, case.case_id), 130 + settle_steps(task.simulator)
    (by_policy,), (by_expert,) = labels_of(case, "slow"), labels_of(case, "expert")
    assert not by_policy.verification.attempts[0].success  # after it the policy would need until step 170
    assert not by_policy.recovery or len(traces[by_policy.recovery]) <= limit
    assert by_expert.proven


class Noted(Aside):
    """Notes from which pose it counts."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.seen: list[bytes] = []

    def act(self, observation: PolicyObservation) -> np.ndarray:
        self.seen.append(observation.target_pose.tobytes())
        return super().act(observation)


def test_a_policy_goes_on_from_the_pose_that_it_asked_for_not_from_the_one_sent(task: fs.Task) -> None:
    policy = Noted(task.simulator)
    driver = PolicyDriver(task, policy)
    episode = run_policy(task, driver, 1, scenario("drift:0.03"), 60)
    step = (episode.injections[0].step or 0) + 10
    intention = episode.intentions[step]
    assert np.linalg.norm(intention.intended[:3] - episode.trace.targets[step - 1, :3]) > 1e-3
    asked, policy.seen = policy.seen[step + 1], []  # after the action that it had planned
    going_on = PolicyContinuation("noted", driver, 1, episode, 1)
    going_on.go_on(branch(task.simulator, 1, episode.trace, step, more_steps=50).runner, step)
    assert policy.seen[0] == asked


def test_an_undisturbed_policy_that_goes_on_repeats_its_episode(task: fs.Task) -> None:
    driver = PolicyDriver(task, Aside(task.simulator))
    episode = run_policy(task, driver, 1, SCENARIOS["nominal"], 60)
    going_on = PolicyContinuation("aside", driver, 1, episode, 4)
    branched = branch(task.simulator, 1, episode.trace, 20, more_steps=going_on.more_steps(20))
    going_on.go_on(branched.runner, 20)
    branched.runner.settle()
    assert branched.trace().states.tobytes() == episode.trace.states.tobytes()


def test_what_is_missing_is_made_again_with_the_same_bytes(
    mined: Dataset, task: fs.Task, few_modes: None, tmp_path: Path
) -> None:
    before = content(mined)
    part = Dataset(tmp_path / "part")
    shutil.copytree(mined.path, part.path)
    policy = Aside(task.simulator)
    lost = [part.case_path(PICK, case.case_id) for case in mined.cases() if case.seed in (0, 3)]
    for path in (*lost, part.nominal_files()[0]):
        path.unlink()
    manifest = part.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"complete":true', '"complete":false'))
    told: list[str] = []
    fs.mine(
        policy,
        tasks=[task],
        episodes=4,
        max_steps=120,
        out=part.path,
        on_progress=lambda m: told.append(m.category),
    )
    assert content(part) == before
    assert told == ["harmless", "recoverable", "harmless", "recoverable"]
    with pytest.raises(UserError, match="mined with other settings"):
        fs.mine(policy, tasks=[task], episodes=5, max_steps=120, out=part.path)


def test_the_branches_of_a_policy_of_chance_are_sampled(
    task: fs.Task, few_modes: None, tmp_path: Path
) -> None:
    policy = Shaky(task.simulator)
    made = fs.mine(
        policy,
        tasks=[task],
        episodes=1,
        first_seed=1,
        max_steps=60,
        labels=1,
        samples=2,
        out=tmp_path / "shaky",
    )
    (case,) = made.cases()
    assert case.policy is not None
    assert not case.policy.deterministic
    (label,) = labels_of(case, "shaky")
    assert label.verification.without_samples == 2
    assert label.needed
    said = "The policy is not deterministic: it gave other actions for the same observation, so each branch "
    said += "without a correction was run 2 times."
    assert mining_text(made).startswith(f"{said}\n\n"), "also of a run that was resumed"
    assert said in write_mining_page(made).read_text()


def test_perturbations_take_turns(task: fs.Task, few_modes: None, tmp_path: Path) -> None:
    modes = ("object_dropped", "gripper_stays_open:1")
    made = fs.mine(
        Aside(task.simulator),
        tasks=[task],
        episodes=2,
        perturbations=modes,
        max_steps=120,
        labels=1,
        out=tmp_path,
    )
    cases = sorted(made.cases(), key=lambda case: case.seed)
    assert [case.perturbations[0].mode for case in cases] == ["object_dropped", "gripper_stays_open"]
    assert cases[0].times.injection_step is not None
    assert "Episodes by perturbation" in mining_text(made)


def test_a_case_is_named_so_that_every_file_system_can_store_it() -> None:
    config = MiningConfig("still", "", ("my.tasks:pour",))
    assert ":" not in mined_case_id(config, "my.tasks:pour", 3)
    assert mined_case_id(config, PICK, 3).startswith(f"{PICK}-000003-")


class Leaving(Still):
    name = "leaving"

    def act(self, observation: object) -> np.ndarray:
        raise SystemExit(0)


class Listed(Still):
    views = ["front"]  # noqa: RUF012 -- never changed


def test_a_policy_cannot_end_the_run(task: fs.Task) -> None:
    driver = PolicyDriver(task, Leaving())
    with pytest.raises(PolicyError, match="leaving raised SystemExit: 0"):
        driver.is_deterministic(0)
    with pytest.raises(PolicyError, match="expected the views of still as a dictionary"):
        PolicyDriver(task, Listed())


def test_workers_and_the_command_line_make_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**SHORT, "episodes": 2, "labels": 1, "max_steps": 10}
    serial = fs.mine(STILL, out=tmp_path / "serial", executor="serial", **settings)
    words = f"mine --policy {STILL} --tasks {PICK} --episodes 2 --labels 1 --max-steps 10 --workers 2 --json"
    made = tmp_path / "made"
    printed = run_cli([*words.split(), "--out", str(made)], capsys)
    assert (printed["failures"], printed["deterministic"]) == (2, True)
    assert "not deterministic" not in mining_text(serial)
    assert content(Dataset(made)) == content(serial)
    manifest = read_mined_manifest(made)
    assert manifest.complete
    assert manifest.command.startswith(f"failsafe mine --policy {STILL} --tasks {PICK} --episodes 2")


def run_cli(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["failsafe", *words])
        with pytest.raises(SystemExit) as left:
            main()
    assert left.value.code == 0
    return json.loads(capsys.readouterr().out)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    fs.generate(PICK, failures=1, labels=1, verify_rollouts=1, out=tmp_path / "data", executor="serial")
    with pytest.raises(StoreError, match="expected an empty folder or one made by `failsafe mine`"):
        fs.mine(STILL, out=tmp_path / "data", **SHORT)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"episodes": 0}, "expected episodes to be at least 1 and at most 1000000, got 0"),
        ({"samples": 0}, "expected samples to be at least 1 and at most 1000000, got 0"),
        ({"perturbations": ("translation_x",)}, "expected a mode that needs no plan"),
        ({"tasks": (PICK, PICK)}, "expected tasks with different names"),
        ({"first_seed": 900_001, "episodes": 1}, "900000:1000000 are kept for 'proof'"),
        ({"first_seed": 799_999, "episodes": 2}, "800000:900000 are kept for 'calibrate'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    changes: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        fs.mine(Still(), out=tmp_path, **(SHORT | changes))


@pytest.mark.parametrize(
    ("needed", "left", "lost"),
    [
        ((50, 41, 30, 31, 30, 30), 20, None),  # it stops
        ((50, 41, 30, 45, 46, 45), 20, None),  # it drops what it held
        ((50, 41, 30, -1, -1, -1), 20, 30),  # it pushes it out of reach
        ((50, 49, 50, 49, 49, 50), 0, None),  # it never begins
        ((50, -1, 30, -1, 29, -1), 20, 50),
        ((-1, -1, -1, -1, -1, -1), 0, 0),
    ],
)
def test_the_step_at_which_the_way_is_left(needed: tuple[int, ...], left: int, lost: int | None) -> None:
    progress = ExpertSteps((0, 10, 20, 30, 40, 50), needed)
    assert (progress.left_step, progress.lost_step) == (left, lost)


def test_an_episode_that_kills_its_worker_is_recorded_once(task: fs.Task, tmp_path: Path) -> None:
    config = MiningConfig("still", "", (PICK,), episodes=1, max_steps=10)
    dataset, told = Dataset(tmp_path / "data"), list[Mined]()
    job = MiningJob(config, dataset, Still(), {PICK: task})
    assert job.give_up((PICK, 0), "the episode")
    for _ in range(2):
        job.run((PICK, 0), Reporter(on_message=told.append))
    (case,) = dataset.cases()
    assert (case.outcome, case.mode) == (Outcome.CRASHED, "none")
    assert [mined.category for mined in told] == ["crashed", "crashed"]
