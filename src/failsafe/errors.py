"""Every error that FailSafe raises on purpose.

```
FailSafeError
├── UserError               what the user asked for cannot be done as written; prints one sentence
│   ├── UnknownNameError    a task, mode, camera or key that does not exist (says the nearest one)
│   ├── PluginError         an installed plugin that cannot be imported
│   ├── MissingAssetsError  a task whose assets must be downloaded first
│   └── MissingRendererError  no Vulkan device, or no software one
├── RecordError             a record of another version, with unknown keys, or damaged
├── StoreError              a dataset folder that cannot be written or holds foreign files
├── DivergedError           the physics left the finite numbers: neither a success nor a failure
├── PlanError               the expert found no way: neither a success nor a failure
├── AssessmentError         a recovery model cannot assess its input
└── PolicyError             a policy does not fit, or gives no action that can be used
```
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path

_LONGEST_NAME = 120
"""Characters of an unknown name that a message repeats."""
_LONGEST_GROUP = 12
"""Names that begin alike, up to a slash, of which a message lists each."""


def list_names(names: Iterable[str]) -> str:
    """Return names in one sentence, in which a suite takes a few words: "libero_90/0 to 89".

    Args:
        names: The names. Those of a suite begin alike: "libero_90/17".
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        prefix, slash, _ = name.rpartition("/")
        groups.setdefault(prefix + slash, []).append(name)
    listed: list[str] = []
    for prefix, members in groups.items():
        numbers = sorted(int(n) for name in members if (n := name.removeprefix(prefix)).isdecimal())
        if prefix and len(members) > 2 and numbers == list(range(len(members))):
            listed.append(f"{prefix}0 to {len(members) - 1}")
        elif prefix and len(members) > _LONGEST_GROUP:
            listed.append(f"{prefix}... ({len(members)} names)")
        else:
            listed += members
    return ", ".join(listed)


class FailSafeError(Exception):
    """Root of the tree above. Its message says what was expected, what was got, and what to do."""


class UserError(FailSafeError):
    """The request cannot be carried out as written."""


class UnknownNameError(UserError):
    """A name that is not among those that exist.

    Args:
        kind: What sort of name it is, for example `"task"`.
        got: The name as given.
        known: Every name that exists.
        hint: A sentence about what else can be given; empty for none.
    """

    def __init__(self, kind: str, got: str, known: Iterable[str], hint: str = "") -> None:
        names = sorted(known)
        got = got if len(got) <= _LONGEST_NAME else f"{got[:_LONGEST_NAME]}..."
        near = difflib.get_close_matches(got, names, n=1, cutoff=0.5)
        guess = f": did you mean '{near[0]}'?" if near else "."
        said = f"unknown {kind} '{got}'{guess} There are: {list_names(names) or 'none'}."
        super().__init__(f"{said} {hint}".rstrip())

    def __reduce__(self) -> tuple[type[UserError], tuple[str]]:
        """Crosses the border between processes as its sentence."""
        return UserError, (str(self),)


class PluginError(UserError):
    """An installed plugin cannot be imported; the message names the package and the cause."""


class MissingAssetsError(UserError):
    """The task's assets are not on this machine."""


class MissingRendererError(UserError):
    """No device that can render was found."""


class RecordError(FailSafeError):
    """A record cannot be read as what it claims to be."""


class StoreError(FailSafeError):
    """The dataset folder cannot be used as it is."""


class DivergedError(FailSafeError):
    """The simulated state is no longer finite."""


class PlanError(FailSafeError):
    """The expert has no plan from the present state."""


class AssessmentError(FailSafeError):
    """A recovery model cannot assess the window that it was given."""


class PolicyError(FailSafeError):
    """A policy does not fit what it is to run on, or gave no answer that can be used."""


def cause_of(error: BaseException) -> str:
    """Return on one line what a user's own code raised, and where: "KeyError: 'x' (my_task.py, line 12)".

    Args:
        error: The exception, as caught.
    """
    text = " ".join(str(error).split())[:300]
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{f': {text}' if text else ''}{place}"
