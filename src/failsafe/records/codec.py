"""Records as JSON and back: versioned, strict, without pickle.

A record is a frozen dataclass. Its file carries a key `"format"` with the record's name and version
(`FORMAT: ClassVar[int]` of its class, 1 by default). `MIGRATIONS: ClassVar[Mapping[str, Migration]]` maps the
format of an older version to a function that updates its fields. Any other version and any unknown key is
refused: an ignored key would be a setting without effect.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from failsafe.errors import RecordError, UnknownNameError
from failsafe.records.files import read_text

T = TypeVar("T")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that no text of a record has: controls except tab and line feed, and halves of characters."""
LARGEST = 1 << 23
"""Longest JSON text, characters: three of them can be a list, which takes 64 bytes in memory."""
_LARGEST_INT = 2**63 - 1
_LARGEST_FLOAT = 1e150
"""Largest number of a record: its square is finite, too."""
Migration = Callable[[dict[str, Any]], dict[str, Any]]
"""Converts the fields of an older version of a record to the current version."""


def to_plain(value: Any) -> Any:
    """Convert a record, or a container of records, to JSON types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, str):  # it may quote others, and would not be read with control characters
        return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), value)
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in cast(list[Any], value)]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return value


def from_plain(cls: type[T], data: Any, where: str = "") -> T:
    """Build a record from JSON types.

    Args:
        cls: A frozen dataclass.
        data: The result of `to_plain`.
        where: Name of the file or field, for error messages.

    Raises:
        RecordError: If a field is missing, has the wrong type, or a value that its record refuses.
        UnknownNameError: If there is a key without a field.
    """
    return cast(T, _decode(cls, data, where or cls.__name__))


def dumps(record: Any) -> str:
    """Return one line of JSON with the record's format; equal records give equal text."""
    plain = {"format": _format(type(record)), **to_plain(record)}
    return json.dumps(plain, sort_keys=True, allow_nan=False, separators=(",", ":"))


def loads(cls: type[T], text: str, where: str = "") -> T:
    """Read the text that `dumps` wrote, older versions included.

    Args:
        cls: A frozen dataclass.
        text: The text.
        where: Name of the file, for error messages.

    Raises:
        RecordError: If the text is not a JSON object, or has another format or version.
    """
    where = where or cls.__name__
    fields = parse_object(text, where)
    expected = _format(cls)
    got = str(fields.pop("format", "no format"))
    if got != expected:
        migrate: Migration | None = getattr(cls, "MIGRATIONS", {}).get(got)
        if migrate is not None:
            try:
                fields = migrate(fields)
            except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
                raise RecordError(f"{where}: expected the fields of '{got:.80}', got others") from error
            return from_plain(cls, fields, where)
        raise RecordError(
            f"{where}: expected format '{expected}', got '{got:.80}'; "
            "read it with the version of FailSafe that wrote it, or generate it again"
        )
    return from_plain(cls, fields, where)


def parse_object(text: str, where: str) -> dict[str, Any]:
    """Parse the JSON object of a file that anyone may have written.

    Args:
        text: The text.
        where: Name of the file, for error messages.

    Raises:
        RecordError: If the text is not a JSON object, is too long, is nested too deeply, or has a number that
            is none.
    """
    if len(text) > LARGEST:
        raise RecordError(f"{where}: expected JSON of at most {LARGEST} characters, got {len(text)}")
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise RecordError(f"{where}: expected JSON, got lists or objects nested too deeply") from error
    except ValueError as error:
        raise RecordError(f"{where}: expected JSON, got text that does not parse ({error})") from error
    if not isinstance(data, dict):
        raise RecordError(f"{where}: expected a JSON object, got {type(data).__name__}")
    return cast(dict[str, Any], data)


def read(cls: type[T], file: Path, absent: str = "", within: Path | None = None) -> T:
    """Read a record from a file of its own.

    Args:
        cls: Type of the record.
        file: The file.
        absent: What to say if there is no such file.
        within: A folder that the file has to be in, links counted; None for any place.

    Raises:
        UserError: With `absent`, if there is no such file.
        RecordError: If it cannot be read, holds no record of the type, or one of an unknown version.
        StoreError: If the file is outside `within`.
    """
    return loads(cls, read_text(file, absent, within=within), str(file))


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _format(cls: type[Any]) -> str:
    return f"{getattr(cls, 'RECORD_NAME', cls.__name__)}/{getattr(cls, 'FORMAT', 1)}"


def _decode(hint: Any, data: Any, where: str) -> Any:
    if _is_plain(hint, data):  # most values of a record
        return data
    origin, args = _parts(hint)
    if origin in (typing.Union, types.UnionType):
        if data is None and type(None) in args:
            return None
        return _decode(next(a for a in args if a is not type(None)), data, where)
    if origin is None and dataclasses.is_dataclass(hint):
        return _decode_record(cast(type[Any], hint), data, where)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        members = _members(hint)
        if not isinstance(data, str) or data not in members:
            raise UnknownNameError(f"value of {where}", str(data), members)
        return members[data]
    if origin in (tuple, list):
        if not isinstance(data, list):
            raise RecordError(f"{where}: expected a list, got {type(data).__name__}")
        values = cast(list[Any], data)
        fixed = origin is tuple and args[-1] is not Ellipsis
        if fixed and len(values) != len(args):
            raise RecordError(f"{where}: expected {len(args)} values, got {len(values)}")
        hints = args if fixed else (args[0],) * len(values)
        items = [_decode(hints[i], value, f"{where}[{i}]") for i, value in enumerate(values)]
        return tuple(items) if origin is tuple else items
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if not isinstance(data, dict):
            raise RecordError(f"{where}: expected an object, got {type(data).__name__}")
        return {k: _decode(args[1], v, f"{where}.{k}") for k, v in cast(dict[str, Any], data).items()}
    if hint is float and isinstance(data, int | float) and not isinstance(data, bool):
        return _decode_float(data, where)
    if hint is int and isinstance(data, int) and abs(data) > _LARGEST_INT:
        raise RecordError(f"{where}: expected a whole number of at most 63 bits, got a larger one")
    if hint is str and isinstance(data, str) and _CONTROL.search(data):
        raise RecordError(f"{where}: expected text without control characters, got {data!r:.80}")
    if hint is Any or (isinstance(data, hint) and not (hint is int and isinstance(data, bool))):
        return data
    raise RecordError(f"{where}: expected {getattr(hint, '__name__', hint)}, got {data!r:.80}")


def _decode_float(data: Any, where: str) -> float:
    try:
        number = float(data)
    except OverflowError:
        number = math.inf
    if not abs(number) <= _LARGEST_FLOAT:
        raise RecordError(f"{where}: expected a finite number, got {number}")
    return number


def _is_plain(hint: Any, data: Any) -> bool:
    """Return whether a value has exactly its field's type (float, str, int, bool), within its limits."""
    if type(data) is not hint:
        return False
    if hint is float:
        return abs(data) <= _LARGEST_FLOAT
    if hint is str:
        return not _CONTROL.search(data)
    return hint is bool or (hint is int and abs(data) <= _LARGEST_INT)


# What a type says about its values is found once: it takes longer than reading them.
@functools.cache
def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    return typing.get_origin(hint), typing.get_args(hint)


@functools.cache
def _members(hint: type[enum.Enum]) -> dict[str, enum.Enum]:
    return {str(member.value): member for member in hint}


@functools.cache
def _fields(cls: type[Any]) -> dict[str, tuple[Any, bool]]:
    """Return the type of each field of a record, and whether it has no default."""
    hints = typing.get_type_hints(cls)
    return {
        f.name: (hints[f.name], f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING)
        for f in dataclasses.fields(cls)
    }


def _decode_record(cls: type[Any], data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise RecordError(f"{where}: expected an object, got {type(data).__name__}")
    given = cast(dict[str, Any], data)
    fields = _fields(cls)
    for key in given:
        if key not in fields:
            raise UnknownNameError(f"key in {where}", key, fields)
    values: dict[str, Any] = {}
    for name, (hint, is_required) in fields.items():
        if name in given:
            values[name] = _decode(hint, given[name], f"{where}.{name}")
        elif is_required:
            raise RecordError(f"{where}: the key '{name}' is missing")
    try:
        return cls(**values)
    except (ValueError, ArithmeticError, RecordError) as error:  # a value out of its range
        raise RecordError(f"{where}: {error}") from error
