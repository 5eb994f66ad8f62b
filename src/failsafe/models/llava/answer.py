"""The answer as text: one JSON object in a canonical form that parses back to the same numbers.

```
{"failing":"no","stage":"lift","mode":"none","actions":[]}
{"failing":"yes","stage":"goal","mode":"translation_x","actions":[[4,31,6,-210,-1,-2,-658,100]]}
{"failing":"yes","stage":"goal","mode":"object_dropped","actions":[]}
```

The third requests help: no action recovers. The format is JSON, so that a server can enforce it by a schema.
The decision comes first: the text before `yes` or `no` is always the same, so the failure probability is read
from the token after `PREFIX`. A row holds a number of control steps and one action in whole units; most
corrections are straight and need one row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from failsafe.errors import RecordError
from failsafe.models.contract import MAX_ACTIONS
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.samples.sample import Sample

UNITS_PER = (10_000,) * 6 + (100,)
"""Units in a metre (0.1 mm), in a radian (0.1 mrad), and from a half-open gripper to an open one."""
PREFIX = '{"failing":"'
"""The start of every answer; `yes` or `no` follows."""
NONE = "none"
"""Stands for no stage and no mode."""
MAX_STAGE = 80
"""Longest name of a stage, characters."""
MAX_TOKENS = 1024
"""Largest number of tokens in an answer. The longest, 24 different actions, takes about 900 with Qwen2."""
_KEYS = ("failing", "stage", "mode", "actions")
_MAX_TEXT = 4096
"""Largest number of characters; the longest valid answer has about 1,200."""
_MODE = re.compile(r"[a-z][a-z0-9_]{0,63}")

Units = tuple[int, int, int, int, int, int, int]


@dataclass(frozen=True)
class Answer:
    """The answer for a window, in the units of the text.

    Attributes:
        failing: Whether the episode fails without a correction.
        stage: The current stage, empty if unknown.
        mode: The failure mode, empty if there is no failure.
        rows: The correction, one row of `[dx, dy, dz, rx, ry, rz, gripper]` a control step, in units of
            0.1 mm, 0.1 mrad and 0.01; a failure without rows means that help is needed.

    Raises:
        RecordError: If a row has not seven numbers, or the parts contradict each other.
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
            raise RecordError(
                f"expected a mode in lower-case letters, digits and underscores, got {self.mode!r}"
            )
        if self.failing != bool(self.mode):
            raise RecordError(f"expected a mode if and only if failing is yes, got {self.mode!r}")
        if self.rows and not self.failing:
            raise RecordError("expected actions only if failing is yes, got some with no")
        if len(self.rows) > MAX_ACTIONS:
            raise RecordError(f"expected at most {MAX_ACTIONS} actions, got {len(self.rows)}")
        for row in self.rows:
            if len(row) != len(UNITS_PER):
                raise RecordError(f"expected actions of seven numbers, got {row}")

    def within(self, embodiment: EmbodimentSpec) -> Answer:
        """Return the answer, if the robot can carry out its actions.

        Raises:
            RecordError: If a number is larger than the robot's limit per step.
        """
        limits = unit_limits(embodiment)
        for row in self.rows:
            if any(abs(value) > limit for value, limit in zip(row, limits, strict=True)):
                raise RecordError(f"expected actions of seven numbers within {limits}, got {row}")
        return self

    @property
    def needs_help(self) -> bool:
        """Whether no action recovers."""
        return self.failing and not self.rows

    @property
    def actions(self) -> tuple[tuple[float, ...], ...]:
        """The correction in metres, radians and gripper from -1 to +1."""
        return tuple(tuple(v / n for v, n in zip(row, UNITS_PER, strict=True)) for row in self.rows)

    @property
    def sentence(self) -> str:
        """The answer as a sentence."""
        where = f" during '{self.stage}'" if self.stage else ""
        if not self.failing:
            return f"All is well{where}."
        what = f"Failing{where} by {self.mode.replace('_', ' ')}"
        if self.needs_help:
            return f"{what}; no action brings it back."
        count = len(self.rows)
        return f"{what}; {count} action{'s' if count > 1 else ''} lead{'' if count > 1 else 's'} back."


def to_units(action: Sequence[float]) -> Units:
    """Convert an action `[dx, dy, dz, rx, ry, rz, gripper]` (m, rad, -1 to +1) to whole units.

    Rounding changes each number by at most half a unit: 0.05 mm, 0.05 mrad, 0.005.

    Raises:
        RecordError: If there are not seven finite numbers.
    """
    try:
        values = [round(value * n) for value, n in zip(action, UNITS_PER, strict=True)]
    except (ValueError, OverflowError):
        raise RecordError(f"expected an action of seven finite numbers, got {tuple(action)}") from None
    return cast(Units, tuple(values))


def unit_limits(embodiment: EmbodimentSpec) -> Units:
    """Return the largest absolute value of each number of an action of a robot, in its units."""
    limits = (*(embodiment.max_translation,) * 3, *(embodiment.max_rotation,) * 3, 1.0)
    return to_units(limits)


def answer_of(sample: Sample, embodiment: EmbodimentSpec) -> Answer:
    """Return the correct answer for a sample.

    Args:
        sample: The sample.
        embodiment: Its robot.

    Raises:
        RecordError: If an answer cannot hold its correction.
    """
    rows = tuple(to_units(action) for action in sample.actions)
    mode = sample.mode if sample.failing else ""
    return Answer(sample.failing, sample.stage, mode, rows).within(embodiment)


def format_answer(answer: Answer) -> str:
    """Write an answer in its canonical form."""
    runs: list[list[int]] = []
    for row in answer.rows:
        if runs and runs[-1][1:] == list(row):
            runs[-1][0] += 1
        else:
            runs.append([1, *row])
    fields = ("yes" if answer.failing else "no", answer.stage or NONE, answer.mode or NONE, runs)
    return json.dumps(dict(zip(_KEYS, fields, strict=True)), separators=(",", ":"), ensure_ascii=False)


def parse_answer(text: str, embodiment: EmbodimentSpec) -> Answer:
    """Read an answer in `format_answer`'s form.

    Other spellings of the same JSON are accepted (spaces, escapes), and equal rows that are not merged.

    Args:
        text: The answer.
        embodiment: The robot, whose step limits bound the actions.

    Raises:
        RecordError: If the text is not a valid answer; the message states why.
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
    stage, mode = ("" if name == NONE else name for name in (stage, mode))
    return Answer(failing == "yes", stage, mode, _rows(runs)).within(embodiment)


def answer_schema(embodiment: EmbodimentSpec, modes: Sequence[str] = ()) -> dict[str, Any]:
    """The form of an answer as a JSON schema, for a server to hold a model to.

    Only keywords that every server with structured output understands, so a little wider than `parse_answer`.

    Args:
        embodiment: The robot, whose step limits bound the numbers.
        modes: Names of all kinds of failure; none for any text.
    """
    mode: dict[str, Any] = {"type": "string"}
    if modes:
        mode["enum"] = [NONE, *modes]
    largest, length = max(unit_limits(embodiment)), 1 + len(UNITS_PER)
    number = {"type": "integer", "minimum": -largest, "maximum": largest}
    row = {"type": "array", "items": number, "minItems": length, "maxItems": length}
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
        if len(row) != len(UNITS_PER) or not 1 <= count <= MAX_ACTIONS:
            raise RecordError(
                f"expected rows of a count from 1 to {MAX_ACTIONS} and seven numbers, got {run!r:.80}"
            )
        rows += [cast(Units, tuple(row))] * count
    return tuple(rows)
