"""The answer in text: one JSON object, written in one way only, that reads back to the same numbers.

```
{"failing":"no","stage":"lift","mode":"none","actions":[]}
{"failing":"yes","stage":"goal","mode":"translation_x","actions":[[4,31,6,-210,-1,-2,-658,100]]}
{"failing":"yes","stage":"goal","mode":"object_dropped","actions":[]}
```

The third asks for help: no action brings it back. It is JSON because a server that is held to a schema can
then not leave the format that the model was trained on. The verdict comes first: what precedes `yes` or `no`
is always the same, so the token after `PREFIX` is where the probability of failure is read. A row is how many
control steps, and one action in whole units; most corrections are one row, for they go straight.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from failsafe.errors import RecordError
from failsafe.models.contract import MAX_ACTIONS, MAX_ROTATION, MAX_TRANSLATION
from failsafe.samples.sample import Sample

UNITS_PER = (10_000,) * 6 + (100,)
"""Units in a metre (0.1 mm), in a radian (0.1 mrad), and from a half-open gripper to an open one."""
LIMITS = (
    *(round(MAX_TRANSLATION * n) for n in UNITS_PER[:3]),
    *(round(MAX_ROTATION * n) for n in UNITS_PER[3:6]),
    UNITS_PER[6],
)
"""The greatest size of each number of an action, in its units."""
PREFIX = '{"failing":"'
"""How every answer begins; `yes` or `no` follows."""
NONE = "none"
"""Stands for no stage and no mode."""
MAX_STAGE = 80
"""The longest name of a sub-task, characters."""
MAX_TOKENS = 1024
"""The most tokens that an answer may take. Qwen2 spells the longest, 24 different actions, with some 900."""
_KEYS = ("failing", "stage", "mode", "actions")
_MAX_TEXT = 4096
"""Characters; the longest answer that there is has some 1,200."""
_MODE = re.compile(r"[a-z][a-z0-9_]{0,63}")

Units = tuple[int, int, int, int, int, int, int]


@dataclass(frozen=True)
class Answer:
    """What is said of a window, in the numbers of the text.

    Attributes:
        failing: Whether the episode fails if nothing is done.
        stage: The sub-task that is going on, empty where it is not known.
        mode: The kind of failure, empty where there is none.
        rows: The correction, one row of `[dx, dy, dz, rx, ry, rz, gripper]` a control step, in units of
            0.1 mm, 0.1 mrad and 0.01; none in a failure means that help is needed.

    Raises:
        RecordError: If a number is out of range, or the parts contradict each other.
    """

    failing: bool
    stage: str
    mode: str = ""
    rows: tuple[Units, ...] = ()

    def __post_init__(self) -> None:
        if len(self.stage) > MAX_STAGE or not self.stage.isprintable() or self.stage == NONE:
            raise RecordError(
                f"expected a stage of at most {MAX_STAGE} printable characters, got {self.stage!r}"
            )
        if self.mode and (not _MODE.fullmatch(self.mode) or self.mode == NONE):
            raise RecordError(f"expected a mode in small letters, digits and underscores, got {self.mode!r}")
        if self.failing != bool(self.mode):
            raise RecordError(f"expected a mode where something is failing and only there, got {self.mode!r}")
        if self.rows and not self.failing:
            raise RecordError("expected actions only where something is failing, got some where nothing is")
        if len(self.rows) > MAX_ACTIONS:
            raise RecordError(f"expected at most {MAX_ACTIONS} actions, got {len(self.rows)}")
        for row in self.rows:
            if len(row) != len(LIMITS) or any(
                abs(value) > limit for value, limit in zip(row, LIMITS, strict=True)
            ):
                raise RecordError(f"expected actions of seven numbers within {LIMITS}, got {row}")

    @property
    def needs_help(self) -> bool:
        """Whether no action brings it back."""
        return self.failing and not self.rows

    @property
    def actions(self) -> tuple[tuple[float, ...], ...]:
        """The correction in metres, radians and gripper from -1 to +1."""
        return tuple(tuple(v / n for v, n in zip(row, UNITS_PER, strict=True)) for row in self.rows)

    @property
    def sentence(self) -> str:
        """The answer for a reader."""
        where = f" during '{self.stage}'" if self.stage else ""
        if not self.failing:
            return f"All is well{where}."
        what = f"Failing{where} by {self.mode.replace('_', ' ')}"
        if self.needs_help:
            return f"{what}; no action brings it back."
        count = len(self.rows)
        return f"{what}; {count} action{'s' if count > 1 else ''} lead{'' if count > 1 else 's'} back."


def to_units(action: Sequence[float]) -> Units:
    """An action `[dx, dy, dz, rx, ry, rz, gripper]` (m, rad, -1 to +1) in whole units.

    Each number moves by at most half a unit: 0.05 mm, 0.05 mrad, 0.005.

    Raises:
        RecordError: If there are not seven finite numbers.
    """
    try:
        values = [round(value * n) for value, n in zip(action, UNITS_PER, strict=True)]
    except (ValueError, OverflowError):
        raise RecordError(f"expected an action of seven finite numbers, got {tuple(action)}") from None
    return cast(Units, tuple(values))


def answer_of(sample: Sample) -> Answer:
    """The right answer to a sample.

    Raises:
        RecordError: If its correction is not one that a verdict can hold.
    """
    rows = tuple(to_units(action) for action in sample.actions)
    return Answer(sample.failing, sample.stage, sample.mode if sample.failing else "", rows)


def format_answer(answer: Answer) -> str:
    """The one text that stands for an answer."""
    runs: list[list[int]] = []
    for row in answer.rows:
        if runs and runs[-1][1:] == list(row):
            runs[-1][0] += 1
        else:
            runs.append([1, *row])
    fields = ("yes" if answer.failing else "no", answer.stage or NONE, answer.mode or NONE, runs)
    return json.dumps(dict(zip(_KEYS, fields, strict=True)), separators=(",", ":"), ensure_ascii=False)


def parse_answer(text: str) -> Answer:
    """Read an answer in `format_answer`'s form.

    JSON's own liberties are allowed (spaces between parts, escapes in words), and rows that could be one.

    Raises:
        RecordError: Saying what is not as it must be.
    """
    if len(text) > _MAX_TEXT:
        raise RecordError(f"expected an answer of at most {_MAX_TEXT} characters, got {len(text)}")
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"expected one JSON object, got something that does not parse ({error})") from None
    if not isinstance(pairs, _Pairs) or tuple(key for key, _ in pairs) != _KEYS:
        raise RecordError(f"expected an object with {', '.join(_KEYS)} in this order, got {text[:80]!r}")
    failing, stage, mode, runs = (value for _, value in pairs)
    if failing not in ("yes", "no") or not isinstance(stage, str) or not isinstance(mode, str):
        raise RecordError(
            f"expected failing to be yes or no, and stage and mode to be text, got {text[:80]!r}"
        )
    if not stage or not mode:
        raise RecordError(f"expected '{NONE}' for no stage and no mode, got an empty text")
    return Answer(failing == "yes", "" if stage == NONE else stage, "" if mode == NONE else mode, _rows(runs))


def answer_schema(modes: Sequence[str] = ()) -> dict[str, Any]:
    """The form of an answer as a JSON schema, for a server to hold a model to.

    Only keywords that every server with structured output understands, so a little wider than `parse_answer`.

    Args:
        modes: Names of all kinds of failure; none for any text.
    """
    mode: dict[str, Any] = {"type": "string"}
    if modes:
        mode["enum"] = [NONE, *modes]
    number = {"type": "integer", "minimum": -max(LIMITS), "maximum": max(LIMITS)}
    row = {"type": "array", "items": number, "minItems": 1 + len(LIMITS), "maxItems": 1 + len(LIMITS)}
    return {
        "type": "object",
        "properties": {
            "failing": {"type": "string", "enum": ["yes", "no"]},
            "stage": {"type": "string", "maxLength": MAX_STAGE},
            "mode": mode,
            "actions": {"type": "array", "items": row, "maxItems": MAX_ACTIONS},
        },
        "required": list(_KEYS),
        "additionalProperties": False,
    }


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object as they stand there: a dictionary would hide one that is there twice."""


def _rows(runs: object) -> tuple[Units, ...]:
    if not isinstance(runs, list) or isinstance(runs, _Pairs):
        raise RecordError("expected actions to be a list")
    rows: list[Units] = []
    for run in cast(list[object], runs):
        # `type` and not `isinstance`: true is an int.
        if not isinstance(run, list) or any(type(value) is not int for value in cast(list[object], run)):
            raise RecordError(f"expected rows of whole numbers, got {run!r:.80}")
        count, *row = cast(list[int], run) or [0]
        if len(row) != len(LIMITS) or not 1 <= count <= MAX_ACTIONS:
            raise RecordError(
                f"expected rows of a count from 1 to {MAX_ACTIONS} and seven numbers, got {run!r:.80}"
            )
        rows += [cast(Units, tuple(row))] * count
    return tuple(rows)
