"""Learning where to hand back, from the hand-backs of recorded episodes."""

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.evaluation import toy_study
from tests.evaluation.toy_study import POLICY, config

from failsafe.errors import RecordError, UserError
from failsafe.evaluation.calibrate import calibrate
from failsafe.evaluation.hand_backs import (
    FEWEST,
    HandBack,
    find_hand_backs,
    learn_from_results,
    learn_hand_back,
)
from failsafe.evaluation.notes import notes
from failsafe.evaluation.preflight import check_calibrations
from failsafe.evaluation.results import Results, StudyManifest
from failsafe.monitors.calibration import Calibration, Threshold, read_calibration, write_calibration
from failsafe.monitors.hand_back import HandBackModel
from failsafe.monitors.settings import MonitorSettings
from failsafe.records.episode import Ending, Episode, EpisodeKey
from failsafe.records.event import Event, EventKind
from failsafe.records.provenance import collect_provenance

LIFT = "lift the cube"


def episode(*events, ending=Ending.SUCCESS, seed=0, condition="monitor", policy=POLICY):
    kinds = {"q": EventKind.QUERY, "t": EventKind.TAKE_OVER, "h": EventKind.HAND_BACK, "a": EventKind.AGAIN}
    made = [
        Event(step, kinds[kind], probability=seen[0], stage=seen[1]) if seen else Event(step, kinds[kind])
        for step, (kind, *seen) in enumerate(events)
    ]
    key = EpisodeKey("PickCube-v1", "nominal", policy, condition, seed)
    return Episode(key, LIFT, ending, 50, 2.5, events=tuple(made))


TWICE = (("q", 0.9, "reach"), ("t",), ("q", 0.2, "grasp"), ("h",), ("q", 0.8, "lift"), ("t",))


def test_the_hand_backs_of_an_episode():
    first = HandBack(("PickCube-v1", 0), LIFT, "grasp", 1, 0.2, False)
    second = HandBack(("PickCube-v1", 0), LIFT, "place", 2, 0.1, True)
    assert find_hand_backs(episode(*TWICE, ("q", 0.1, "place"), ("h",))) == [first, second]
    failed = episode(*TWICE, ("q", 0.1, "place"), ("h",), ending=Ending.FAILURE)
    assert find_hand_backs(failed) == [first, replace(second, success=False)]
    # The monitor acts to the end: the policy never got back control the second time.
    assert find_hand_backs(episode(*TWICE)) == [first]
    assert find_hand_backs(episode(*TWICE, ending=Ending.CRASHED)) == []
    assert find_hand_backs(episode(("q", 0.1, "reach"))) == []
    # A damaged record: nothing was taken over.
    assert find_hand_backs(episode(("q", 0.1, "reach"), ("h",))) == []


def drawn(number, rng, odds):
    """Hand-backs with outcomes drawn from some log odds."""
    found = []
    for index in range(number):
        stage, takeovers = str(rng.choice(["reach", "lift", "place"])), int(rng.integers(1, 5))
        one = HandBack(
            ("PickCube-v1", index // 2), LIFT, stage, takeovers, float(rng.uniform(0.01, 0.99)), True
        )
        found.append(replace(one, success=bool(rng.random() < 1 / (1 + math.exp(-odds(one))))))
    return found


def test_the_model_recovers_the_odds_that_outcomes_were_drawn_from():
    def odds(one):
        stage = {"reach": -1.0, "lift": 0.0, "place": 2.0}[one.stage]
        p = one.failure_probability
        return 0.5 + stage - 1.5 * math.log(one.takeovers) - 0.4 * math.log(p / (1 - p))

    model = learn_hand_back(drawn(4000, np.random.default_rng(5), odds), [(8000, 8040)])
    for one in drawn(50, np.random.default_rng(6), odds):
        found = model.probability(LIFT, one.stage, one.takeovers, one.failure_probability)
        assert found == pytest.approx(1 / (1 + math.exp(-odds(one))), abs=0.08)
    assert model.takeovers == pytest.approx(-1.5, abs=0.2)
    assert model.failing == pytest.approx(-0.4, abs=0.1)
    assert (model.hand_backs, model.seeds) == (4000, ((8000, 8040),))
    assert model.auroc > 0.75
    assert model.auroc_interval[0] < model.auroc < model.auroc_interval[1]
    assert model.brier < model.brier_of_rate - 0.03
    assert model.probability("another", "reach", 1, 0.5) is None
    known = model.probability(LIFT, "lift", 1, 0.5)
    assert model.probability(LIFT, "never seen", 1, 0.5) == pytest.approx(known, abs=0.2)


def test_outcomes_that_depend_on_nothing_are_not_predicted():
    model = learn_hand_back(drawn(400, np.random.default_rng(7), lambda one: 0.0))
    assert model.auroc_interval[0] < 0.5 < model.auroc_interval[1]
    assert model.brier > model.brier_of_rate - 0.01


def test_outcomes_all_alike_give_a_finite_model():
    model = learn_hand_back(drawn(60, np.random.default_rng(8), lambda one: 50.0))
    assert model.auroc is None
    assert 0.9 < model.probability(LIFT, "lift", 1, 0.5) < 1.0


def test_too_few_hand_backs_are_one_sentence():
    with pytest.raises(
        UserError, match=rf"expected at least {FEWEST} hand-backs to learn from, got 19: eval"
    ):
        learn_hand_back(drawn(19, np.random.default_rng(9), lambda one: 0.0))


def folder_of_results(path, number=12, **changes):
    study = replace(config(last_seed=number, conditions=("never", "assist")), weights="abc", **changes)
    results = Results(path)
    results.begin(study)
    for seed in range(number):
        results.write(episode(*TWICE, ("q", 0.1, "place"), ("h",), seed=seed, condition="assist"))
        results.write(episode(("q", 0.9, "reach"), seed=seed, condition="never", ending=Ending.FAILURE))
    return path


def test_results_of_other_policies_weights_and_seeds_are_refused(tmp_path):
    model = learn_from_results([folder_of_results(tmp_path / "a")], POLICY, "abc")
    assert (model.hand_backs, model.successes, model.seeds) == (24, 12, ((0, 12),))
    # After the first takeover every one failed, in "grasp"; after the second none did, in "place".
    assert model.probability(LIFT, "grasp", 1, 0.2) < 0.2 < 0.8 < model.probability(LIFT, "place", 2, 0.1)
    with pytest.raises(UserError, match="expected results of another with the recovery model"):
        learn_from_results([tmp_path / "a"], "another", "abc")
    with pytest.raises(UserError, match="or of other weights"):
        learn_from_results([tmp_path / "a"], POLICY, "abd")


def test_results_of_proof_seeds_are_refused(tmp_path):
    results = Results(tmp_path)
    results.begin(replace(config(), first_seed=900_000, last_seed=900_004, weights="abc"))
    with pytest.raises(UserError, match=r"may choose something, .* got those of proof seeds"):
        learn_from_results([tmp_path], POLICY, "abc")


def test_proof_seeds_are_refused_where_the_manifest_states_no_role(tmp_path):
    study = replace(config(), first_seed=900_000, last_seed=900_004, weights="abc")
    Results(tmp_path).begin(study, StudyManifest(study, "", collect_provenance()))
    assert Results(tmp_path).manifest.seed_role is None
    with pytest.raises(UserError, match="got those of proof seeds"):
        learn_from_results([tmp_path], POLICY, "abc")


def test_results_of_other_weights_of_the_policy_are_refused(tmp_path):
    folder_of_results(tmp_path, policy_weights={POLICY: "before"})
    with pytest.raises(UserError, match=f"of the weights or code that {POLICY} has now, got those of others"):
        learn_from_results([tmp_path], POLICY, "abc", "now")
    assert learn_from_results([tmp_path], POLICY, "abc", "before") == learn_from_results(
        [tmp_path], POLICY, "abc"
    )


def test_a_folder_that_is_given_twice_is_refused(tmp_path):
    folder_of_results(tmp_path / "a")
    with pytest.raises(UserError, match="expected each folder of results once"):
        learn_from_results([tmp_path / "a", tmp_path / "b" / ".." / "a"], POLICY, "abc")


NOT_LEARNED_FROM = (
    "model-alone",
    "hold",
    "fixed-retry",
    "always-nudge",
    "random-nudge",
    "oracle-detector",
    "retry",
)


def test_controls_with_another_model_or_policy_are_not_learned_from(tmp_path):
    conditions = ("never", "watch", "assist", *NOT_LEARNED_FROM, "oracle-minimal")
    study = replace(config(last_seed=24, conditions=conditions), weights="abc")
    results = Results(tmp_path / "a")
    results.begin(study)
    for seed in range(24):
        results.write(episode(*TWICE, seed=seed, condition="assist"))
        for condition in conditions[3:]:
            results.write(episode(*TWICE, ("h",), seed=seed, condition=condition))
    model = learn_from_results([tmp_path / "a"], POLICY, "abc")
    assert (model.hand_backs, model.successes) == (24, 0)
    Results(tmp_path / "b").begin(replace(study, conditions=("watch", "fixed-retry")))
    with pytest.raises(UserError, match="conditions monitor, escalate and assist, got those of watch, fixed"):
        learn_from_results([tmp_path / "b"], POLICY, "abc")


def test_folders_are_checked_before_the_episodes_of_a_calibration(tmp_path):
    with pytest.raises(UserError, match=r"expected results made by `failsafe evaluate`, got .*absent"):
        calibrate("reference:weak", out=tmp_path / "t.json", hand_backs=tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


MODEL = HandBackModel(
    {LIFT: 0.1}, {LIFT: {"reach": 1.0}}, -1.0, 0.2, 30, 10, 0.8, (0.7, 0.9), 0.1, 0.2, ((3, 9),)
)


def calibration(model):
    return Calibration(0.05, "tiny", POLICY, 2.0, {LIFT: Threshold(0.5, 40)}, hand_back=model)


def test_a_model_is_read_back_with_its_thresholds(tmp_path):
    write_calibration(tmp_path / "t.json", calibration(MODEL))
    assert read_calibration(tmp_path / "t.json").hand_back == MODEL


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("takeovers", float("nan"), "expected finite terms"),
        ("stages", {LIFT: {"reach": float("inf")}}, "expected finite terms"),
        ("successes", 31, "got 31 of 30"),
        ("successes", -1, "got -1 of 30"),
        ("auroc", 1.2, "expected scores of a hand-back model from 0 to 1, got auroc 1.2"),
        ("auroc_interval", (0.9, 0.7), "from 0 to 1, .* auroc_interval"),
        ("brier", float("nan"), "from 0 to 1, .* brier nan"),
        ("seeds", ((9, 3),), "first and one past the last, got 9 and 3"),
    ],
)
def test_a_model_that_no_fit_gives_is_refused(field, value, problem):
    with pytest.raises(RecordError, match=problem):
        replace(MODEL, **{field: value})


@pytest.mark.parametrize("probability", [0.0, 1e-300, 0.5, 1.0])
def test_certain_assessments_give_probabilities(probability):
    assert 0.0 < MODEL.probability(LIFT, "reach", 1, probability) < 1.0


def test_an_evaluation_of_the_condition_needs_a_model():
    with pytest.raises(UserError, match=r"hand-back model of .* for the condition 'learned-hand-back'"):
        replace(config(calibrated=True), conditions=("never", "learned-hand-back"))
    found = replace(config(calibrated=True), calibrations={POLICY: calibration(MODEL)})
    assert replace(found, conditions=("never", "learned-hand-back"))


def test_a_calibration_in_place_of_its_hand_back_model_is_refused():
    settings = MonitorSettings()
    object.__setattr__(settings, "hand_back", calibration(MODEL))  # tests check the types of arguments
    with pytest.raises(UserError, match=r"such as calibration\.hand_back .*, got Calibration"):
        settings.__post_init__()


def test_a_model_among_the_settings_is_refused():
    study = config()
    with pytest.raises(UserError, match="choose the condition 'learned-hand-back'"):
        replace(study, settings=replace(study.settings, hand_back=MODEL))


def test_the_page_says_what_the_model_was_learned_from():
    study = replace(config(), calibrations={POLICY: calibration(MODEL)})
    learned = "learned from 30 hand-backs, 10 of them successes"

    def said(*conditions):
        manifest = StudyManifest(replace(study, conditions=conditions), "", collect_provenance())
        return [note for note in notes(manifest, ()) if "hand-back model" in note]

    assert said("never", "monitor") == []
    (note,) = said("never", "learned-hand-back")
    assert note == (
        f"The hand-back model of {POLICY} is {learned}; area under the ROC curve in cross-validation 0.80 "
        "(0.70 to 0.90)."
    )


def test_seeds_from_which_the_model_was_learned_are_not_evaluated():
    study = replace(config(last_seed=8), calibrations={POLICY: calibration(MODEL)})
    with pytest.raises(UserError, match=r"from which no hand-back model was learned, got 3:8"):
        check_calibrations(study)
    check_calibrations(replace(study, last_seed=3))


class Assisting(toy_study.TinyMonitor):
    """Goes on upwards where it sees no failure."""

    def assess(self, window):
        return replace(super().assess(window), continuation=((0.0, 0.0, 0.002, 0.0, 0.0, 0.0, 1.0),) * 4)


def test_the_condition_hands_back_where_the_model_says(tmp_path, monkeypatch):
    monkeypatch.setattr(toy_study, "TinyMonitor", Assisting)
    instruction = "pick up the box and hold it at the goal"

    def played(name, odds):
        model = replace(MODEL, instructions={instruction: odds}, seeds=())
        found = replace(calibration(model), thresholds={instruction: Threshold(0.5, 40)})
        study = replace(config(last_seed=2), calibrations={POLICY: found})
        study = replace(study, conditions=("never", "monitor", "learned-hand-back"))
        results = toy_study.run(tmp_path / name, monkeypatch, study)
        episodes = {(e.key.condition, e.key.seed): e for e in results.episodes()}
        return [
            [episodes[condition, seed].intervention_steps for seed in (0, 1)]
            for condition in ("monitor", "learned-hand-back")
        ]

    by_default, learned = played("likely", 40.0)
    assert learned == by_default
    again, learned = played("unlikely", -40.0)
    assert again == by_default
    assert all(later > 2 * at_once > 0 for later, at_once in zip(learned, by_default, strict=True))
