r"""Visual questions in LLaVA's conversation format, to mix into the training samples.

A model that is trained on robot images only forgets how to answer other questions. A file in the format of
LLaVA's training data, a JSON list or one JSON object per line, is mixed in with a share of all examples:

```
{"id": "7", "image": "cats/7.jpg", "conversations": [
    {"from": "human", "value": "<image>\nHow many cats are there?"}, {"from": "gpt", "value": "Two."}]}
```

`image` may be a list; every image has its `<image>` in the text. Each answer of a conversation becomes one
example, with the preceding turns as its question, so that the loss is on answers only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from failsafe.errors import UserError
from failsafe.records.files import read_text

_LARGEST = 1 << 32
"""Largest file of visual questions, bytes."""
_PLACEHOLDER = "<image>"
_ROLES = {"human": "user", "gpt": "assistant"}


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation.

    Attributes:
        role: "user" or "assistant".
        text: The text, without placeholders.
        images: Number of images before the text.
    """

    role: str
    text: str
    images: int = 0


@dataclass(frozen=True)
class VisualQuestion:
    """One answer of a conversation, with its question.

    Attributes:
        images: Files of the images, in order.
        turns: The preceding turns, the last one by the user.
        answer: The assistant's answer.
    """

    images: tuple[Path, ...]
    turns: tuple[Turn, ...]
    answer: str

    def messages(self) -> list[dict[str, object]]:
        """Return the question as a chat; images are placeholders, in the order of `images`."""
        return [
            {
                "role": turn.role,
                "content": [*[{"type": "image"}] * turn.images, {"type": "text", "text": turn.text}],
            }
            for turn in self.turns
        ]


@dataclass(frozen=True)
class Mix:
    """A file of visual questions and its share of all examples.

    Attributes:
        path: File of visual questions.
        share: Share of all examples, from 0 to 1.
    """

    path: Path
    share: float


def parse_mix(text: str) -> Mix:
    """Read `vqa.jsonl:0.3`.

    Raises:
        UserError: If it is not a file and a share between 0 and 1.
    """
    path, _, number = text.rpartition(":")
    try:
        share = float(number)
    except ValueError:
        share = -1.0
    if not path or not 0.0 < share < 1.0:
        raise UserError(
            f"expected a mixture FILE:SHARE with a share between 0 and 1, vqa.jsonl:0.3, got '{text}'"
        )
    return Mix(Path(path), share)


def read_questions(path: Path) -> tuple[list[VisualQuestion], int]:
    """Return the visual questions of a file, and the number of rows left out for lack of an image.

    A batch without any image would skip the vision tower on one GPU while the other GPUs wait for it.

    Raises:
        UserError: If the file or one of its images does not exist, or a row is malformed.
    """
    rows, found, without = _rows(path), list[VisualQuestion](), 0
    for number, row in enumerate(rows, 1):
        where = f"{path}, row {number}"
        if not isinstance(row, dict):
            raise UserError(f"{where}: expected a JSON object, got {type(row).__name__}")
        fields = cast(dict[str, Any], row)
        images = _images(fields, path.parent, where)
        if images:
            found += _questions(fields, images, where)
        else:
            without += 1
    if not found:
        raise UserError(f"expected questions with images in {path}, got none in {len(rows)} rows")
    return found, without


def mixed_order(own: int, others: int, share: float, seed: int) -> list[tuple[bool, int]]:
    """Return the examples of an epoch: all own ones, and as many others as make up the share.

    Others are drawn without replacement, and from the start again where there are too few.

    Args:
        own: Number of own examples.
        others: Number of others.
        share: Share of the others among all examples, from 0 to below 1.
        seed: Seed of the draw.

    Returns:
        For each example, whether it is an own one and its index among those.
    """
    wanted = round(own * share / (1.0 - share)) if others else 0
    rng = np.random.default_rng([seed, 0x31])
    chosen: list[int] = []
    while len(chosen) < wanted:
        chosen += rng.permutation(others).tolist()
    return [(True, i) for i in range(own)] + [(False, i) for i in chosen[:wanted]]


def _rows(path: Path) -> Sequence[object]:
    text = read_text(path, f"expected a file of visual questions at {path}, got none", _LARGEST)
    if text.lstrip().startswith("["):
        try:
            return cast(list[object], json.loads(text))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: expected a JSON list, it does not parse ({error})") from error
    rows: list[object] = []
    # Not `splitlines`, which splits at U+2028 as well, within a JSON text.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}, line {number}: expected a JSON object, got {error}") from error
    return rows


def _images(row: dict[str, Any], folder: Path, where: str) -> tuple[Path, ...]:
    named: Any = row.get("image") or []
    names: Any = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or not all(isinstance(name, str) for name in cast(list[Any], names)):
        raise UserError(f"{where}: expected 'image' to be a file name or a list of them, got {named!r:.80}")
    paths = tuple(folder / name for name in cast(list[str], names))
    for path in paths:
        if len(path.name) > 255 or not path.is_file():
            raise UserError(
                f"{where}: expected an image at {path}, got none; paths start at the file's folder"
            )
    return paths


def _questions(row: dict[str, Any], images: tuple[Path, ...], where: str) -> list[VisualQuestion]:
    said: Any = row.get("conversations")
    if not isinstance(said, list) or len(cast(list[Any], said)) < 2:
        raise UserError(f"{where}: expected 'conversations' with a question and an answer, got {said!r:.80}")
    turns = [_turn(turn, where) for turn in cast(list[Any], said)]
    if any(turn.role != ("user", "assistant")[i % 2] for i, turn in enumerate(turns)) or len(turns) % 2:
        raise UserError(f"{where}: expected human and gpt in turns, human first and gpt last")
    count = sum(turn.images for turn in turns)
    if count != len(images):
        raise UserError(f"{where}: expected as many {_PLACEHOLDER} as images ({len(images)}), got {count}")
    found: list[VisualQuestion] = []
    for i in range(1, len(turns), 2):
        before = tuple(turns[:i])
        shown = sum(turn.images for turn in before)
        if shown:
            found.append(VisualQuestion(images[:shown], before, turns[i].text))
    return found


def _turn(turn: object, where: str) -> Turn:
    fields = cast(dict[str, Any], turn) if isinstance(turn, dict) else {}
    role, value = fields.get("from"), fields.get("value")
    if not isinstance(role, str) or role not in _ROLES or not isinstance(value, str):
        raise UserError(f"{where}: expected turns with 'from' (human or gpt) and 'value', got {turn!r:.80}")
    if role == "gpt" and _PLACEHOLDER in value:
        raise UserError(f"{where}: expected {_PLACEHOLDER} in questions only, got one in an answer")
    text = value.replace(_PLACEHOLDER + "\n", "").replace(_PLACEHOLDER, "").strip()
    return Turn(_ROLES[role], text, value.count(_PLACEHOLDER))
