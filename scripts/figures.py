"""Insert figures from the records in docs/tables into the prose of README.md and docs/.

A figure stands between two comments, which Markdown does not show. The first one names the figure:

    success rises to <!--= weak nominal all assist success -->80.7<!--/--> %

The five words are the episode table (docs/tables/weak.parquet), the scenario, the task ("all" for all of
them), the condition, and a name in `FIGURES`. `python scripts/figures.py` writes the figures anew from the
records; with `--check` it writes nothing and fails if a figure differs.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from failsafe.errors import UserError
from failsafe.evaluation.episode_table import read_episode_table
from failsafe.evaluation.intervention import STEP_LIMITS
from failsafe.evaluation.paired import ALL_TASKS, Row, summarise
from failsafe.reports.evaluation_cells import probability

ROOT = Path(__file__).resolve().parents[1]
FIGURE = re.compile(r"<!--= (?P<key>[^>]*?) -->(?P<text>.*?)<!--/-->", re.DOTALL)
"""A figure of the prose: its key, and the text that a reader sees."""


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _between(bounds: tuple[float, float] | None) -> str:
    return "–" if bounds is None else f"{100 * bounds[0]:.0f} to {100 * bounds[1]:.0f}"


def _p(row: Row) -> str:
    text = probability(row.p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _within(limit: int) -> Callable[[Row], str]:
    """Return the figure that states the success rate within a number of control steps."""
    point = STEP_LIMITS.index(limit)
    return lambda row: _percent(row.curve[point].successes / row.episodes)


FIGURES: Mapping[str, Callable[[Row], str]] = {
    "episodes": lambda row: str(row.episodes),
    "alone": lambda row: _percent(row.alone / row.episodes),
    "success": lambda row: _percent(row.successes / row.episodes),
    "interval": lambda row: _between(row.interval),
    "gain": lambda row: f"{100 * (row.successes - row.alone) / row.episodes:+.1f}",
    "p": _p,
    "rescued": lambda row: str(row.rescued),
    "failures": lambda row: str(row.episodes - row.alone),
    "harmed": lambda row: str(row.harmed),
    "successes": lambda row: str(row.alone),
    "harm": lambda row: _percent(row.harm_rate),
    "false_alarms": lambda row: _percent(row.false_alarm_rate),
    "intervention": lambda row: _percent(row.intervention.share),
    "intervention_rescued": lambda row: _percent(row.intervention.rescued_share),
    "policy_ends": lambda row: str(row.intervention.policy_ends),
    "survived": lambda row: str(row.survived),
    "survived_alarms": lambda row: str(row.survived_alarms),
    **{f"success_{limit}": _within(limit) for limit in STEP_LIMITS},
}
"""What can be stated of a row. `failures` and `successes` are those of the policy alone; rates are in %.
`intervention` is the share of control steps in which the monitor acts, `survived` the perturbed episodes that
the policy alone survives, `success_100` the success within 100 control steps."""


@functools.cache
def rows(table: str) -> dict[tuple[str, str, str], Row]:
    """Return the rows of an episode table, by scenario, task and condition.

    Args:
        table: Name of the file in docs/tables, without its suffix.

    Raises:
        UserError: If there is no such file, or it has several policies.
    """
    found: dict[tuple[str, str, str], Row] = {}
    for row in summarise(list(read_episode_table(ROOT / "docs" / "tables" / f"{table}.parquet"))).rows:
        if found.setdefault((row.scenario, row.task, row.condition), row) is not row:
            raise UserError(f"expected one policy in docs/tables/{table}.parquet, got several")
    # A table of one task has no row of all tasks, and that task is all of them.
    for (scenario, _, condition), row in list(found.items()):
        found.setdefault((scenario, ALL_TASKS, condition), row)
    return found


def figure(key: str) -> str:
    """Return a figure as text.

    Args:
        key: Table, scenario, task, condition and name of the figure, separated by spaces.

    Raises:
        UserError: If there is no such figure.
    """
    words = key.split()
    if len(words) != 5 or words[4] not in FIGURES:
        raise UserError(
            "expected 'TABLE SCENARIO TASK CONDITION FIGURE' with a figure of "
            f"{', '.join(FIGURES)}, got '{key}'"
        )
    row = rows(words[0]).get((words[1], words[2], words[3]))
    if row is None:
        raise UserError(f"expected a row of docs/tables/{words[0]}.parquet, got '{key}'")
    return FIGURES[words[4]](row)


def insert(text: str) -> str:
    """Return a text of Markdown with every figure as the records have it.

    Args:
        text: The Markdown.

    Raises:
        UserError: If a key names no figure.
    """
    return FIGURE.sub(lambda match: f"<!--= {match['key']} -->{figure(match['key'])}<!--/-->", text)


def pages() -> list[Path]:
    """Return the pages whose prose may hold figures."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def main() -> int:
    """Write or check the figures of every page; return the exit status."""
    parser = argparse.ArgumentParser(description="Insert figures from the records into the prose.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a figure differs")
    check = parser.parse_args().check
    status = 0
    for page in pages():
        before = page.read_text(encoding="utf-8")
        try:
            after = insert(before)
        except UserError as error:
            print(f"{page.relative_to(ROOT)}: {error}", file=sys.stderr)
            return 2
        if after != before:
            print(f"{page.relative_to(ROOT)}: {'differs from the records' if check else 'written'}")
            status = int(check)
            if not check:
                page.write_text(after, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
