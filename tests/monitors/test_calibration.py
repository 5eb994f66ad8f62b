"""Thresholds that keep their bound, and files that are read back or refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failsafe.errors import RecordError, UserError
from failsafe.monitors import calibration
from failsafe.monitors.calibration import (
    NEVER,
    Calibration,
    Threshold,
    calibrate,
    check_known,
    check_usable,
    conformal_threshold,
    read_calibration,
    shipped_calibration,
    smallest_alpha,
    successes_needed,
    write_calibration,
)
from failsafe.monitors.hand_back import HandBackModel
from failsafe.records.assessment import Assessment, WindowSpec


@pytest.mark.parametrize(
    ("number", "alpha", "rank"),
    [
        (19, 0.05, 19),  # ceil(20 * 0.95): the largest of 19 just does
        (18, 0.05, None),  # ceil(19 * 0.95) = 19 > 18
        (100, 0.05, 96),  # ceil(101 * 0.95 = 95.95)
        (9, 0.5, 5),
        (1, 0.5, 1),
        (0, 0.5, None),
    ],
)
def test_the_rank_of_the_threshold(number, alpha, rank):
    scores = [float(i) for i in range(1, number + 1)]
    np.random.default_rng(0).shuffle(scores)
    assert conformal_threshold(scores, alpha) == (None if rank is None else float(rank))


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 1.5])
def test_an_alpha_out_of_range(alpha):
    with pytest.raises(UserError, match="alpha between 0 and 1"):
        conformal_threshold([0.1, 0.2], alpha)


@pytest.mark.parametrize(("number", "alpha"), [(20, 0.05), (39, 0.1), (60, 0.3)])
def test_of_new_successes_at_most_alpha_see_an_alarm(number, alpha):
    rng = np.random.default_rng(1)
    trials = 4000
    above = 0
    for _ in range(trials):
        # Skewed, as scores are: exchangeability is the only assumption.
        *scores, new = rng.beta(0.5, 3.0, number + 1).tolist()
        threshold = conformal_threshold(scores, alpha)
        assert threshold is not None
        above += new > threshold
    error = math.sqrt(alpha * (1 - alpha) / trials)
    assert above / trials <= alpha + 3 * error
    # Tight: without ties the rate is within 1/(n+1) of alpha.
    assert above / trials >= alpha - 1 / (number + 1) - 3 * error


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=40),
    st.floats(0.01, 0.99),
)
def test_at_most_alpha_of_the_scores_themselves_are_above(scores, alpha):
    threshold = conformal_threshold(scores, alpha)
    if threshold is not None:
        assert sum(score > threshold for score in scores) <= alpha * (len(scores) + 1)


def test_an_instruction_with_enough_episodes_has_its_own_threshold():
    episodes = [("lift", 0.5 + i / 100) for i in range(1, 20)] + [("push", 0.8)] * 3
    found = calibrate(episodes, 0.05, "compact", "reference:weak", 2.0, "failsafe calibrate")
    # Three are too few: the threshold is the 22nd smallest of all 22.
    assert {name: replace(t, promise="") for name, t in found.thresholds.items()} == {
        "lift": Threshold(0.69, 19),
        "push": Threshold(0.8, 22, pooled=True),
    }
    assert found.thresholds["lift"].promise == "an alarm in at most 5 % of its successful episodes"
    assert found.thresholds["push"].promise.endswith(
        "all instructions together; nothing for this one, which has 3 of the 19 successes it takes"
    )
    assert found.threshold("lift") == 0.69
    # An instruction that was never run: no bound, so never an alarm.
    assert found.threshold("stack") == NEVER


def test_a_task_without_a_success_takes_the_pooled_threshold():
    tried = ("lift", "stack")
    found = calibrate([("lift", 0.5)] * 19, 0.05, "compact", "mine", 2.0, instructions=tried)
    assert replace(found.thresholds["stack"], promise="") == Threshold(0.5, 19, pooled=True)
    assert found.threshold("push") == NEVER


def test_too_few_episodes_in_all_never_raise_an_alarm():
    found = calibrate([("lift", 0.1)] * 9 + [("push", 0.5)] * 9, 0.05, "compact", "reference:weak", 2.0)
    assert found.threshold("push") == found.threshold("lift") == NEVER
    assert found.thresholds["lift"].promise == (
        "nothing, and no alarm: 18 successes are fewer than the 19 that alpha = 0.05 takes; the smallest "
        "alpha that they can promise is 0.053"
    )
    with pytest.raises(
        UserError, match=r"at least 19 successful episodes, .* got 18, which can promise 0\.053"
    ):
        check_usable(found)


def test_thresholds_for_instructions_that_the_model_does_not_know_are_refused():
    class Model:
        name, window_spec, instructions = "m", WindowSpec(), ("pour the tea",)

        def assess(self, window):
            return Assessment()

    with pytest.raises(
        UserError, match=r"that m knows \('pour the tea', ...\), got some for 'lift', ...: the"
    ):
        check_known(FOUND, Model())
    Model.instructions = ("pour the tea", "lift")
    check_known(FOUND, Model())
    Model.instructions = ()
    check_known(FOUND, Model())


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.2, 1 / 3, 0.5, 0.9])
def test_the_successes_that_alpha_takes_are_the_fewest_that_have_a_threshold(alpha):
    needed = successes_needed(alpha)
    assert conformal_threshold([0.0] * needed, alpha) is not None
    assert needed == 1 or conformal_threshold([0.0] * (needed - 1), alpha) is None
    # n successes can promise 1 / (n + 1), and nothing below it.
    assert conformal_threshold([0.0] * needed, smallest_alpha(needed) + 1e-9) is not None
    assert conformal_threshold([0.0] * needed, smallest_alpha(needed) - 1e-6) is None


@pytest.mark.parametrize("version", ["3", "4"])
def test_a_file_of_a_version_before_is_read(tmp_path, version):
    path = tmp_path / "thresholds.json"
    path.write_text(
        '{"alpha":0.05,"drift":2.0,"format":"Calibration/'
        + version
        + '","model":"compact","policy":"reference:weak",'
        '"command":"calibrate","thresholds":{"lift":{"episodes":19,"pooled":false,"value":0.19}},"weights":""}'
    )
    assert read_calibration(path) == FOUND


FOUND = Calibration(0.05, "compact", "reference:weak", 2.0, {"lift": Threshold(0.19, 19)}, "calibrate")


def test_a_file_is_read_back(tmp_path):
    path = tmp_path / "deep" / "thresholds.json"
    write_calibration(path, FOUND)
    assert read_calibration(path) == FOUND
    before = path.read_bytes()
    write_calibration(path, FOUND)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("data", "error", "description"),
    [
        (None, UserError, "made by `failsafe calibrate`"),
        (b"\xff\xfe\x00binary", RecordError, "expected text in UTF-8"),
        (b"{", RecordError, "does not parse"),
        (b'{"format":"Calibration/9"}', RecordError, "expected format 'Calibration/5'"),
        (b'{"format":"Calibration/1","smoothing":3}', RecordError, "or generate it again"),
        (b'{"format":"Episode/1"}', RecordError, "got 'Episode/1'"),
        (b'{"format":"Calibration/3","alpha":0.1}', RecordError, "'model' is missing"),
        (b'{"format":"Calibration/3","alfa":0.1}', UserError, "did you mean 'alpha'"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, data, error, description):
    path = tmp_path / "thresholds.json"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(error, match=description):
        read_calibration(path)


@pytest.mark.parametrize("seeds", ["[5]", "[5,5]", "[9,3]", "[0,9,3]"])
def test_seeds_that_are_no_range_are_refused(tmp_path, seeds):
    path = tmp_path / "thresholds.json"
    write_calibration(path, replace(FOUND, seeds=(3, 9)))
    path.write_text(path.read_text().replace("[3,9]", seeds))
    with pytest.raises(RecordError, match=r"thresholds.json: expected seeds as first and one past the last"):
        read_calibration(path)


@pytest.mark.parametrize(
    ("field", "value", "description"),
    [
        ("auroc", 2.0, "thresholds.json.hand_back: expected scores of a hand-back model from 0 to 1"),
        ("auroc", "high", "hand_back.auroc: expected float, got 'high'"),
        ("hand_backs", -3, "expected at most as many successes as hand-backs, got 10 of -3"),
        ("takeovers", 1e300, "hand_back.takeovers: expected a finite number"),
        ("seeds", [[3, 9, 4]], r"hand_back.seeds\[0\]: expected 2 values, got 3"),
        ("stages", [], "hand_back.stages: expected an object, got list"),
    ],
)
def test_a_damaged_hand_back_model_is_one_sentence(tmp_path, field, value, description):
    path = tmp_path / "thresholds.json"
    write_calibration(path, replace(FOUND, hand_back=HandBackModel({"lift": 0.1}, {}, -1.0, 0.2, 30, 10)))
    fields = json.loads(path.read_text())
    fields["hand_back"][field] = value
    path.write_text(json.dumps(fields))
    with pytest.raises(RecordError, match=description):
        read_calibration(path)


def test_thresholds_of_another_model_are_refused(tmp_path):
    path = tmp_path / "thresholds.json"
    write_calibration(path, FOUND)
    assert read_calibration(path, "compact") == FOUND
    assert read_calibration(path, "./compact", "") == FOUND  # a file may be named in two ways
    with pytest.raises(UserError, match="expected thresholds of the monitor runs/mine, got compact's"):
        read_calibration(path, "runs/mine")


def test_thresholds_of_other_weights_are_refused(tmp_path):
    path = tmp_path / "thresholds.json"
    write_calibration(path, replace(FOUND, weights="first"))
    assert read_calibration(path, "compact", "first").weights == "first"
    with pytest.raises(UserError, match="of the weights or code that the monitor has now"):
        read_calibration(path, "compact", "second")


def test_thresholds_ship_for_reference_policies_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "THRESHOLDS", Path(tmp_path))
    write_calibration(tmp_path / "weak.json", FOUND)
    assert shipped_calibration("reference:weak") == FOUND
    assert shipped_calibration("reference:strong") is None
    assert shipped_calibration("openvla:weak") is None
    assert shipped_calibration("weak") is None
