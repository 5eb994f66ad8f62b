"""Which code is imported by its name: what the user wrote or trusts, and nothing that only a file names.

Names of the form MODULE:ATTRIBUTE can come from the user's command line or script, and from files that others
made: the task of a record, the modes of a manifest. Importing the latter would run code that the author of a
dataset chose. So a name that comes from a file is imported only if it is trusted. Registered names, those of
installed plugins included, need no trust.

On the command line every name comes from a file unless it was typed. In a script of the user's own every name
is the user's, except in the functions that take names from a dataset, which run in `names_from_files`.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from typing import Any

from failsafe.errors import UserError


@dataclass(frozen=True)
class ImportRules:
    """Which names may be imported, and from where.

    Attributes:
        names: The trusted names.
        any: Whether all other names may be imported, too.
        folder: Folder that is first on the import path while one of the names is imported; empty for none.
    """

    names: frozenset[str] = frozenset()
    any: bool = True
    folder: str = ""


_rules = ImportRules()


def import_rules() -> ImportRules:
    """Return the rules of this process."""
    return _rules


def set_import_rules(rules: ImportRules) -> None:
    """Replace the rules of this process; a worker takes those of the process that started it."""
    global _rules
    _rules = rules


def trust(*names: str) -> None:
    """Allow names that come from files to be imported in this process and its workers.

    Args:
        *names: Names such as "my_tasks:pour".
    """
    set_import_rules(replace(_rules, names=_rules.names | {*names}))


@contextlib.contextmanager
def following(rules: ImportRules) -> Generator[None, None, None]:
    """Follow other rules in the context."""
    before = _rules
    set_import_rules(rules)
    try:
        yield
    finally:
        set_import_rules(before)


@contextlib.contextmanager
def names_from_files() -> Generator[None, None, None]:
    """Import only trusted names in the context: the others come from a file."""
    with following(replace(_rules, any=False)):
        yield


def names_in(words: Iterable[str]) -> frozenset[str]:
    """Return everything in the words of a command line that could be a name MODULE:ATTRIBUTE.

    Args:
        words: The words, each a name, a list of names, or a name with something before or behind it.
    """
    found: set[str] = set()
    for text in (text.strip() for word in words for text in re.split("[,=]", word)):
        parts = text.split(":")
        found |= {
            ":".join(parts[first:last])
            for first in range(len(parts))
            for last in range(first + 2, len(parts) + 1)
        }
    return frozenset(found)


def may_import(name: str) -> bool:
    """Return whether a name MODULE:ATTRIBUTE may be imported.

    Args:
        name: The name.
    """
    return _rules.any or name in _rules.names


def require_import(name: str) -> None:
    """Check that a name MODULE:ATTRIBUTE may be imported.

    Args:
        name: The name.

    Raises:
        UserError: If the name comes from a file and is not trusted.
    """
    if not may_import(name):
        raise UserError(
            f"expected a registered name, got '{name}', which comes from a file: its module is not imported "
            f"unless you trust it; look at its code, then allow it with --trust {name} (in Python: "
            f"failsafe.imports.trust('{name}'))"
        )


def import_attribute(name: str) -> Any:
    """Import the object of a name MODULE:ATTRIBUTE.

    Args:
        name: The name.

    Raises:
        UserError: If the name comes from a file and is not trusted.
        ImportError, AttributeError, ValueError: If there is no such object.
    """
    require_import(name)
    module, _, attribute = name.partition(":")
    with import_path(name):
        found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    return found


@contextlib.contextmanager
def import_path(name: str) -> Generator[None, None, None]:
    """Put the folder of the rules on the import path for one of their names.

    Afterwards it is the last on the path: the module may import its neighbours later, and no name that the
    user did not type is looked for there first.

    Args:
        name: The name that is looked up in the context.
    """
    folder = _rules.folder if name in _rules.names else ""
    if not folder:
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)
