"""Figures from the records that the documentation names: episode tables, JSON files and tables in Markdown.

A key is some words; words with spaces stand in quotation marks. The first word names the record:

- `TABLE seeds` and `TABLE tasks`: the seeds of an episode table with their role, and its tasks.
- `TABLE SCENARIO TASK CONDITION FIGURE`: a figure of an episode table, docs/tables/TABLE.parquet. The task is
  "all" for all of them; the figures are those of `FIGURES`. `TABLE/OTHER` is TABLE if that record exists, and
  OTHER otherwise; `TABLE?` is "not measured yet" if it does not exist.
  `TABLE:POLICY` is one policy of a table.
- `TABLE against OTHER SCENARIO CONDITION REFERENCE FIGURE`: a table under a condition compared with another
  one under a condition, on the same initial states; the figures are those of `CONTRASTS`.
- `FILE.json KEY ... KEY:FORMAT`: a value of a JSON file. A list of objects is read by their names. The format
  is one of Python's (`:.1f`, `:.0%`).
- `benchmarks.MODULE NAME`: what `figures()` of that module has under this name.
- `FILE.md HEADING ROW COLUMN`: a cell of the Markdown table under a heading; `COLUMN:point` is the cell
  without its interval.

Commas separate several values of a word, and a pattern (`*`) means all that it fits. Such a key gives a
table, with a row for each and a column for each figure.
"""

from __future__ import annotations

import fnmatch
import functools
import importlib
import itertools
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from failsafe.errors import UserError
from failsafe.evaluation.conditions import NEVER
from failsafe.evaluation.contrasts import Contrast, compare_studies
from failsafe.evaluation.episode_table import read_episode_table
from failsafe.evaluation.intervention import STEP_LIMITS
from failsafe.evaluation.paired import ALL_TASKS, Row, summarise
from failsafe.records.episode import Episode
from failsafe.records.seeds import role_of
from failsafe.reports.evaluation_cells import probability

ROOT = Path(__file__).resolve().parents[1]
ROLES = {"develop": "development", "calibrate": "calibration", "proof": "proof", "train": "training"}
"""What the text calls the roles of seeds."""


def percent(value: float | None) -> str:
    """Return a share in per cent, without the sign."""
    return "–" if value is None else f"{100 * value:.1f}"


def between(bounds: tuple[float, float] | None) -> str:
    """Return an interval of a share in per cent, without the sign."""
    return "–" if bounds is None else f"{100 * bounds[0]:.0f} to {100 * bounds[1]:.0f}"


def with_bounds(value: float | None, bounds: tuple[float, float] | None) -> str:
    """Return a share in per cent with its interval."""
    return percent(value) + ("" if bounds is None else f" ({between(bounds)})")


def p_text(row: Row | Contrast) -> str:
    """Return the p-value of a row or comparison as it stands in a sentence."""
    text = probability(row.p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def out_of(number: int, total: int) -> str:
    """Return a count out of a total."""
    return f"{number} of {total}" if total else "–"


def within(limit: int) -> Callable[[Row], str]:
    """Return the figure that states the success rate within a number of control steps."""
    point = STEP_LIMITS.index(limit)
    return lambda row: percent(row.curve[point].successes / row.episodes)


FIGURES: Mapping[str, tuple[str, Callable[[Row], str]]] = {
    "episodes": ("pairs", lambda row: f"{row.episodes:,}"),
    "alone": ("alone, %", lambda row: percent(row.alone / row.episodes)),
    "success": ("success, %", lambda row: percent(row.rate)),
    "interval": ("95 %", lambda row: between(row.interval)),
    "rate": ("success, %", lambda row: with_bounds(row.rate, row.interval)),
    "gain": ("gain", lambda row: f"{100 * row.gain:+.1f}"),
    "gain_interval": ("95 %", lambda row: between(row.gain_interval)),
    "p": ("p", p_text),
    "p_value": ("p", lambda row: probability(row.p)),
    "rescued": ("rescued", lambda row: str(row.rescued)),
    "failures": ("failures alone", lambda row: str(row.episodes - row.alone)),
    "rescues": ("rescued", lambda row: out_of(row.rescued, row.episodes - row.alone)),
    "harmed": ("harmed", lambda row: str(row.harmed)),
    "successes": ("successes alone", lambda row: str(row.alone)),
    "harms": ("harmed", lambda row: out_of(row.harmed, row.alone)),
    "harm": ("harmed, %", lambda row: with_bounds(row.harm_rate, row.harm_interval)),
    "false_alarms": (
        "alarms in successes alone, %",
        lambda row: with_bounds(row.false_alarm_rate, row.false_alarm_interval),
    ),
    "intervention": ("monitor acts, % of steps", lambda row: percent(row.intervention.share)),
    "intervention_rescued": (
        "in rescued episodes",
        lambda row: percent(row.intervention.rescued_share),
    ),
    "policy_ends": ("end under the policy", lambda row: str(row.intervention.policy_ends)),
    "ends": (
        "rescued that end under the policy",
        lambda row: out_of(row.intervention.policy_ends, row.intervention.rescued),
    ),
    "survived": ("survived alone", lambda row: str(row.survived)),
    "survived_alarms": ("alarms, policy survives", lambda row: out_of(row.survived_alarms, row.survived)),
    "overhead": ("policy waits, % of time", lambda row: percent(row.overhead)),
    "detected": ("detected", lambda row: out_of(row.detected, row.onsets)),
    "delay": ("delay, steps", lambda row: "–" if row.delay is None else f"{row.delay:.0f}"),
    **{f"success_{limit}": (f"within {limit} steps", within(limit)) for limit in STEP_LIMITS},
}
"""The figures of a row of an episode table, with the headings of their columns. Rates are in %; `failures`
and `successes` are those of the policy alone."""
OF_ALL = ("episodes", "alone", "success", "interval", "rate", *(f"success_{limit}" for limit in STEP_LIMITS))
"""The figures that a row of the policy alone has."""


CONTRASTS: Mapping[str, Callable[[Contrast], str]] = {
    "episodes": lambda found: f"{found.episodes:,}",
    "gain": lambda found: f"{100 * found.gain:+.1f}",
    "gain_interval": lambda found: between(found.gain_interval),
    "better": lambda found: str(found.better),
    "worse": lambda found: str(found.worse),
    "p": p_text,
}
"""The figures of a comparison, as text."""


def look_up(key: str) -> str:
    """Return a figure, or a table of figures, as text.

    Args:
        key: The key; see the docstring of this module.

    Raises:
        UserError: If it names no figure.
    """
    words = shlex.split(key)
    if words and words[0].startswith("benchmarks."):
        return _benchmark(words)
    suffix = Path(words[0]).suffix if words else ""
    if suffix == ".json":
        return _json(words)
    if suffix == ".md":
        return _cell(words)
    return _episodes(words)


def _episodes(words: Sequence[str]) -> str:
    """Return a figure or a table of episode tables."""
    figures = words[-1].split(",") if words else []
    if len(words) == 7 and words[1] == "against":
        return _against(words)
    if len(words) == 2 and words[1] in ("seeds", "tasks"):
        return _seeds(_existing(words[0])) if words[1] == "seeds" else _tasks(_existing(words[0]))
    if len(words) != 5 or not set(figures) <= set(FIGURES):
        raise UserError(
            "expected 'TABLE SCENARIO TASK CONDITION FIGURE' with a figure of "
            f"{', '.join(FIGURES)}, or 'TABLE seeds', or 'TABLE tasks', got '{' '.join(words)}'"
        )
    if words[0].endswith("?") and not _path(words[0][:-1]).is_file():
        return "not measured yet"
    tables = [_existing(name.removesuffix("?")) for name in words[0].split(",")]
    wanted = words[1:4]
    found = [((row.policy, *where), row) for table in tables for where, row in _in_order(rows(table), wanted)]
    if not found:
        raise UserError(f"expected a row of docs/tables/{words[0]}.parquet, got '{' '.join(words)}'")
    if len(figures) == 1 and not any("," in word or "*" in word for word in words):
        return FIGURES[figures[0]][1](found[0][1])
    varying = [n for n in range(4) if len({names[n] for names, _ in found}) > 1]
    labels = [("policy", "scenario", "task", "condition")[n] for n in varying]
    return _table(
        [*labels, *(FIGURES[name][0] for name in figures)],
        len(labels),
        [
            [*(_shown(names[n]) for n in varying), *(_of(row, figure) for figure in figures)]
            for names, row in found
        ],
    )


def _against(words: Sequence[str]) -> str:
    """Return a figure of two episode tables on the same initial states."""
    table, _, other, *where, figure = words
    if figure not in CONTRASTS:
        raise UserError(f"expected a figure of {', '.join(CONTRASTS)}, got '{figure}'")
    base = _episodes_of(other)[0].key.policy
    for found in compare_studies(_episodes_of(table), _episodes_of(other), base):
        if [found.scenario, found.condition, found.reference] == where:
            return CONTRASTS[figure](found)
    raise UserError(f"expected a scenario and conditions of both tables, got '{' '.join(words)}'")


def _in_order(
    found: Mapping[tuple[str, ...], Row], wanted: Sequence[str]
) -> list[tuple[tuple[str, ...], Row]]:
    """Return the rows that a key names, in its order."""
    axes = [list(dict.fromkeys(parts)) for parts in zip(*found, strict=True)]
    chosen = [_select(word, names) or [word] for word, names in zip(wanted, axes, strict=True)]
    return [(where, found[where]) for where in itertools.product(*chosen) if where in found]


def _of(row: Row, figure: str) -> str:
    """Return a figure of a row; the policy alone is not compared with itself."""
    return "" if row.condition == NEVER and figure not in OF_ALL else FIGURES[figure][1](row)


def _shown(name: str) -> str:
    return "all" if name == ALL_TASKS else f"`{name}`"


def _existing(table: str) -> str:
    """Return the first of some alternatives that is a file."""
    alternatives, colon, policy = table.partition(":")
    names = alternatives.split("/")
    there = [name for name in names if _path(name).is_file()]
    return (there[0] if there else names[-1]) + colon + policy


def _path(table: str) -> Path:
    return ROOT / "docs" / "tables" / f"{table.partition(':')[0]}.parquet"


@functools.cache
def rows(table: str) -> dict[tuple[str, ...], Row]:
    """Return the rows of an episode table, by scenario, task and condition.

    Args:
        table: Name of the file in docs/tables, without its suffix; `TABLE:POLICY` for one of its policies.

    Raises:
        UserError: If there is no such file, or it has several policies and none is named.
    """
    found: dict[tuple[str, ...], Row] = {}
    for row in summarise(_episodes_of(table)).rows:
        if found.setdefault((row.scenario, row.task, row.condition), row) is not row:
            raise UserError(f"expected one policy in docs/tables/{table}.parquet, got several")
    # A table of one task has no row of all tasks, and that task is all of them.
    for (scenario, _, condition), row in list(found.items()):
        found.setdefault((scenario, ALL_TASKS, condition), row)
    return found


@functools.cache
def _episodes_of(table: str) -> list[Episode]:
    policy = table.partition(":")[2]
    found = [e for e in read_episode_table(_path(table)) if policy in ("", e.key.policy)]
    if not found:
        raise UserError(f"expected a policy of docs/tables/{table.partition(':')[0]}.parquet, got '{policy}'")
    return found


def _seeds(table: str) -> str:
    """Return the seeds of an episode table with their role."""
    seeds = sorted({episode.key.seed for episode in _episodes_of(table)})
    whole = range(seeds[0], seeds[-1] + 1)
    return f"{ROLES[role_of(whole).value]} seeds {whole.start}:{whole.stop}"


def _tasks(table: str) -> str:
    """Return the tasks of an episode table as words of a sentence."""
    *first, last = sorted({episode.key.task.removesuffix("-v1") for episode in _episodes_of(table)})
    return f"{', '.join(first)} and {last}" if first else last


def _json(words: Sequence[str]) -> str:
    """Return a value or a table of a JSON file."""
    path = ROOT / words[0]
    if not path.is_file():
        raise UserError(f"expected a record, got {words[0]}, which does not exist")
    value: Any = json.loads(path.read_text(encoding="utf-8"))
    *keys, last = words[1:]
    names: list[str] = []
    for key in keys:
        value = _by_name(value)
        if key in value:
            value = value[key]
            continue
        names = _select(key, list(value))
        if not names or key is not keys[-1]:
            raise UserError(f"expected a key of {', '.join(map(str, value))}, got '{key}' in {words[0]}")
    if not names:
        return _value(value, last, words[0])
    columns = last.split(",")
    heads = [column.partition(":")[0].replace("_", " ") for column in columns]
    cells = [[name.replace("_", " "), *(_value(value[name], c, words[0]) for c in columns)] for name in names]
    return _table(["", *heads], 1, cells)


def _select(word: str, names: Sequence[str]) -> list[str]:
    """Return the names that a word of a key means, in its order; none if it is a plain word."""
    if "," not in word and "*" not in word:
        return []
    return [name for part in word.split(",") for name in fnmatch.filter(names, part)]


def _by_name(value: Any) -> Mapping[str, Any]:
    """Return an object as it is, and a list of objects by their names."""
    if isinstance(value, list):
        return {str(item["name"]): item for item in cast(list[dict[str, Any]], value)}
    return cast(Mapping[str, Any], value)


def _value(parent: Any, key: str, record: str) -> str:
    """Return a value of an object as text."""
    name, _, form = key.partition(":")
    parent = _by_name(parent)
    if name not in parent:
        raise UserError(f"expected a key of {', '.join(map(str, parent))}, got '{name}' in {record}")
    return _text(parent[name], form)


def _text(value: Any, form: str) -> str:
    """Return a value as text: two numbers are an interval, or without a format a count out of a total."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and not form:
        return "{:,} of {:,}".format(*cast(list[int], value))
    if isinstance(value, list):
        low, high = cast(list[float], value)
        return f"{_text(low, form).removesuffix(' %')} to {_text(high, form)}"
    if not form:
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:{form}}".replace("%", " %")


def _benchmark(words: Sequence[str]) -> str:
    """Return a figure or a block that a benchmark makes of its records."""
    found: Mapping[str, str] = importlib.import_module(words[0]).figures()
    if len(words) != 2 or words[1] not in found:
        raise UserError(f"expected '{words[0]} NAME' of {', '.join(found)}, got '{' '.join(words)}'")
    text = found[words[1]]
    return f"\n\n{text}\n\n" if text[:1] in "|-" else text


def _cell(words: Sequence[str]) -> str:
    """Return a cell or a table of a table in Markdown."""
    if len(words) != 4:
        raise UserError(f"expected 'FILE.md HEADING ROW COLUMN', got '{' '.join(words)}'")
    table = _markdown_table(words[0], words[1])
    names = _select(words[2], list(table))
    cells = [[name, *(_part(table, words, name, c) for c in words[3].split(","))] for name in names]
    if not names:
        return _part(table, words, words[2], words[3])
    heads = [column.removesuffix(":point").replace("_", " ") for column in words[3].split(",")]
    return _table(["", *heads], 1, cells)


def _part(table: Mapping[str, Mapping[str, str]], words: Sequence[str], row: str, column: str) -> str:
    """Return a cell of a table in Markdown, or the part of it that the column asks for."""
    column, _, form = column.partition(":")
    found = table.get(row, {}).get(column)
    if found is None:
        raise UserError(
            f"expected a cell under '{words[1]}' of {words[0]}, got row '{row}', column '{column}'"
        )
    return found.partition(" (")[0] if form == "point" else found


@functools.cache
def _markdown_table(name: str, heading: str) -> Mapping[str, Mapping[str, str]]:
    """Return the first table under a heading: its cells by column, by row."""
    path = ROOT / name
    if not path.is_file():
        raise UserError(f"expected a record, got {name}, which does not exist")
    lines = path.read_text(encoding="utf-8").splitlines()
    under = itertools.dropwhile(lambda line: line.lstrip("# ") != heading or line[:1] != "#", lines)
    after = itertools.dropwhile(lambda line: line[:1] != "|", itertools.islice(under, 1, None))
    table = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in itertools.takewhile(lambda line: line[:1] == "|", after)
    ]
    return {cells[0]: dict(zip(table[0][1:], cells[1:], strict=True)) for cells in table[2:]}


def _table(heads: Sequence[str], names: int, cells: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; the first columns are names, the others numbers."""
    rule = ["---"] * names + ["---:"] * (len(heads) - names)
    lines = ["| " + " | ".join(row) + " |" for row in (heads, *cells)]
    return "\n".join(["", "", lines[0], "|" + "|".join(rule) + "|", *lines[1:], "", ""])
