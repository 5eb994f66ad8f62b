import dataclasses
import enum
import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from failsafe.errors import RecordError, UnknownNameError
from failsafe.records import codec
from failsafe.records.branches import count_branches
from failsafe.records.case import (
    Attempt,
    BranchMethod,
    Correction,
    FailureCase,
    Label,
    NominalRecord,
    Outcome,
    RecoveryStrategy,
    Times,
    Verification,
)
from failsafe.records.perturbation import Perturbation
from failsafe.records.plan import Stage, StagePlan, StageSpan


class Colour(str, enum.Enum):
    RED = "red"
    GREEN = "green"


@dataclass(frozen=True)
class Inner:
    number: float
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    name: str
    count: int
    colour: Colour
    inner: Inner
    maybe: Inner | None = None
    many: tuple[Inner, ...] = ()
    table: dict[str, int] = field(default_factory=dict)
    flag: bool = False


OUTER = Outer("n", 3, Colour.GREEN, Inner(0.5, ("a", "b")), None, (Inner(1.0),), {"k": 2}, True)
TEXT = (
    '{"colour":"green","count":3,"flag":true,"format":"Outer/1","inner":{"number":0.5,"words":["a","b"]},'
    '"many":[{"number":1.0,"words":[]}],"maybe":null,"name":"n","table":{"k":2}}'
)


NEW_IN_4 = ("cause_ended_succeeds", "replanned_succeeds", "continuation", "without_samples")


def case() -> FailureCase:
    attempts = (
        Attempt(RecoveryStrategy.NOMINAL_PATH, 2, False, "still fails"),
        Attempt(RecoveryStrategy.FRESH_PLAN, 3, True),
    )
    verification = Verification(True, False, True, 5, 4, attempts, "2 mm, 1 degree")
    actions = ((0.01, 0.0, 0.0, 0.0, 0.0, 0.1, -1.0), (0.0,) * 7)
    correction = Correction(
        actions, "robot_base", RecoveryStrategy.FRESH_PLAN, "reach", -1, ("reach", "grasp")
    )
    return FailureCase(
        case_id="c",
        task="ToyPick-v0",
        seed=7,
        instruction="pick up the box",
        perturbations=(Perturbation("translation_x", 1, "grasp", 0.25, -0.05, "m"),),
        outcome=Outcome.FAILURE,
        reason="",
        times=Times(10, 11, 20),
        labels=(
            Label(25, "lift", correction, verification, "recovery_0"),
            Label(60, "lift", None, verification),
        ),
        stage_names=("reach", "grasp"),
    )


def test_a_record_is_one_line_with_its_format_on_it():
    assert codec.dumps(OUTER) == TEXT


def test_what_was_written_is_read():
    assert codec.loads(Outer, TEXT) == OUTER


@pytest.mark.parametrize(
    "record",
    [
        case(),
        StagePlan("do it", (Stage("reach", (0.1,) * 7, 1.0, 2, 0.5),)),
        NominalRecord(
            "ToyPick-v0",
            1,
            True,
            "",
            StagePlan("do it", ()),
            (StageSpan("reach", 0, 5, 0.1, 0.2, 1.0, -1.0, (), ("box",)),),
        ),
    ],
    ids=lambda r: type(r).__name__,
)
def test_the_records_of_the_pipeline_survive_the_way_there_and_back(record):
    assert codec.loads(type(record), codec.dumps(record)) == record


def test_a_case_of_an_older_format_says_that_its_branches_were_replayed():
    plain = json.loads(codec.dumps(case()))
    plain["format"] = "FailureCase/2"
    for label, rollouts in zip(plain["labels"], (5, 1), strict=True):
        evidence = label["verification"]
        evidence["rollouts"] = rollouts
        for name in ("branch", "noisy_branch", *NEW_IN_4):
            del evidence[name]
        for attempt in evidence["attempts"]:
            del attempt["screened"]
    noisy, alone = (label.verification for label in codec.loads(FailureCase, json.dumps(plain)).labels)
    assert (noisy.branch, noisy.noisy_branch) == (BranchMethod.REPLAY, BranchMethod.REPLAY)
    assert (alone.branch, alone.noisy_branch) == (BranchMethod.REPLAY, None)
    assert not any(attempt.screened for attempt in noisy.attempts)


def test_branches_that_an_older_case_does_not_hold_are_unknown_and_nothing_is_needed():
    plain = json.loads(codec.dumps(case()))
    plain["format"] = "FailureCase/3"
    for label, outcome in zip(plain["labels"], (False, None), strict=True):
        for name in NEW_IN_4:
            del label["verification"][name]
        label["verification"]["fault_ended_succeeds"] = outcome
    read = codec.loads(FailureCase, json.dumps(plain))
    first, second = (label.verification for label in read.labels)
    assert (first.cause_ended_succeeds, first.replanned_succeeds) == (False, None)
    assert (second.cause_ended_succeeds, second.replanned_succeeds) == (None, None)
    assert (first.continuation, first.without_samples) == ("expert", 1)
    assert first.proven
    assert not first.needed
    assert not read.needed
    counts = count_branches(read.labels)
    assert (counts.corrections, counts.needed, counts.unknown) == (1, 0, 1)


def test_arrays_and_numpy_numbers_become_plain_ones():
    plain = codec.to_plain({"a": np.array([[1.5, 2.0]]), "n": np.float32(0.5), 3: np.int64(4)})
    assert plain == {"a": [[1.5, 2.0]], "n": 0.5, "3": 4}
    assert type(plain["n"]) is float


def test_a_whole_number_is_a_float_where_one_is_expected():
    inner = codec.from_plain(Inner, {"number": 2})
    assert inner.number == 2.0
    assert type(inner.number) is float


def test_what_is_left_out_has_its_default():
    assert codec.from_plain(Inner, {"number": 2.0}) == Inner(2.0, ())


def change(**changes: object) -> str:
    return json.dumps({**json.loads(TEXT), **changes})


def test_another_version_is_refused():
    with pytest.raises(RecordError) as caught:
        codec.loads(Outer, change(format="Outer/2"), "data/x.json")
    assert str(caught.value) == (
        "data/x.json: expected format 'Outer/1', got 'Outer/2'; "
        "read it with the version of FailSafe that wrote it, or generate it again"
    )


def test_another_record_is_refused():
    with pytest.raises(RecordError, match="expected format 'Inner/1', got 'Outer/1'"):
        codec.loads(Inner, TEXT)


def test_a_missing_format_is_refused():
    with pytest.raises(RecordError, match="expected format 'Inner/1', got 'no format'"):
        codec.loads(Inner, '{"number": 1.0}')


def test_an_unknown_key_is_refused_with_the_nearest_one():
    with pytest.raises(UnknownNameError) as caught:
        codec.loads(Outer, change(inner={"numbr": 1.0}))
    assert str(caught.value) == (
        "unknown key in Outer.inner 'numbr': did you mean 'number'? There are: number, words."
    )


def test_an_unknown_value_of_an_enumeration_is_refused():
    with pytest.raises(UnknownNameError) as caught:
        codec.loads(Outer, change(colour="gren"))
    assert str(caught.value) == (
        "unknown value of Outer.colour 'gren': did you mean 'green'? There are: green, red."
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 3}, "Outer.name: expected str, got 3"),
        ({"count": 1.5}, "Outer.count: expected int, got 1.5"),
        ({"count": True}, "Outer.count: expected int, got True"),
        ({"flag": 1}, "Outer.flag: expected bool, got 1"),
        ({"inner": []}, "Outer.inner: expected an object, got list"),
        ({"inner": {}}, "Outer.inner: the key 'number' is missing"),
        ({"inner": {"number": "1"}}, "Outer.inner.number: expected float, got '1'"),
        ({"many": {}}, "Outer.many: expected a list, got dict"),
        ({"many": [{"number": 1.0}, {"number": None}]}, "Outer.many[1].number: expected float, got None"),
        ({"table": [1]}, "Outer.table: expected an object, got list"),
        ({"table": {"k": "v"}}, "Outer.table.k: expected int, got 'v'"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_path(changes, message):
    with pytest.raises(RecordError) as caught:
        codec.loads(Outer, change(**changes))
    assert str(caught.value) == message


def test_text_that_is_no_json_object_is_refused():
    with pytest.raises(RecordError, match=r"^f: expected JSON, got text that does not parse \("):
        codec.loads(Outer, "{", "f")
    with pytest.raises(RecordError, match=r"^f: expected a JSON object, got list$"):
        codec.loads(Outer, "[]", "f")


def test_numbers_that_json_has_not_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        codec.dumps(Inner(float("nan")))


def test_text_that_others_wrote_is_written_so_that_it_can_be_read():
    said = "bad \x1b[2J\x00\r\n\tnews \ud800 \x9b é"
    text = codec.dumps(dataclasses.replace(OUTER, name=said, inner=Inner(0.5, (said,))))
    read = codec.loads(Outer, text)
    assert read.name == "bad \\x1b[2J\\x00\\r\n\tnews \\ud800 \\x9b é"
    assert read.inner.words == (read.name,)
    assert codec.dumps(read) == text
