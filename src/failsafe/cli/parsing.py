"""Texts of the command line as values: lists, ranges of seeds, shards."""

from __future__ import annotations

import re

from failsafe.errors import UserError


def parse_names(text: str) -> tuple[str, ...]:
    """Return the parts of a comma-separated list, without spaces and empty parts."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def parse_seeds(text: str) -> range:
    """Return the seeds FIRST:LAST; the last is not included.

    Raises:
        UserError: If the text has another form, or the range is empty.
    """
    found = re.fullmatch(r"(\d+):(\d+)", text.strip())
    if not found:
        raise UserError(f"expected --seeds FIRST:LAST with two whole numbers, got '{text}'")
    first, last = int(found[1]), int(found[2])
    if first >= last:
        raise UserError(f"expected --seeds FIRST:LAST with FIRST < LAST, got {first}:{last}, which is empty")
    return range(first, last)


def parse_shard(text: str) -> tuple[int, int]:
    """Return the shard I/N, I from 0.

    Raises:
        UserError: If the text has another form, or I is not below N.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not found or int(found[1]) >= int(found[2]):
        raise UserError(f"expected --shard I/N with 0 <= I < N such as 0/4, got '{text}'")
    return int(found[1]), int(found[2])


def parse_pair(flag: str, text: str) -> tuple[float, float]:
    """Return METRES,DEGREES as two numbers.

    Args:
        flag: The flag, for the message.
        text: What was typed.

    Raises:
        UserError: If the text has another form.
    """
    number = r"\s*([0-9]*\.?[0-9]+)\s*"
    found = re.fullmatch(f"{number},{number}", text)
    if not found:
        raise UserError(f"expected {flag} METRES,DEGREES such as 0.05,5, got '{text}'")
    return float(found[1]), float(found[2])
