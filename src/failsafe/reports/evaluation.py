"""The report of a study: one page that opens from disk, and the same in words for a terminal."""

from __future__ import annotations

from pathlib import Path

from failsafe.evaluation.paired import Row, Summary, summarise
from failsafe.evaluation.study import Results


def format_summary(summary: Summary) -> str:
    """The table of a study in plain text."""
    head = f"{'scenario':10} {'policy':18} {'task':14} {'arm':16} {'success':>19} {'gain':>7} {'p':>8}"
    head += f" {'rescued':>8} {'harmed':>7} {'false alarms':>13} {'take-overs':>11}"
    return "\n".join([head, *map(_line, summary.rows)])


def write_report(results: Results, path: Path) -> Path:
    """Write the page of a study."""
    path.write_text(f"<pre>{format_summary(summarise(results.episodes()))}</pre>")
    return path


def _line(row: Row) -> str:
    low, high = row.interval or (0.0, 1.0)
    false = "-" if row.false_alarm_rate is None else f"{row.false_alarm_rate:.1%}"
    return (
        f"{row.scenario:10} {row.policy:18} {row.task:14} {row.arm:16} "
        f"{row.rate:6.1%} [{low:.0%}, {high:.0%}]".ljust(81)
        + f" {row.gain:+7.1%} {row.p:8.2g} {row.rescued:8} {row.harmed:7} {false:>13} {row.take_overs:11.2f}"
    )
