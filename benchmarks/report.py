"""The figures of `benchmarks.run`: as lines while they come, as a page, and what they were measured on."""

from __future__ import annotations

import datetime
import os
import platform
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measures import Pairs, Seconds
from failsafe.records.provenance import collect_provenance


@dataclass
class Row:
    """One figure.

    Attributes:
        name: What it is.
        value: The figure.
        unit: Its unit.
        target: What it is to reach, in words; empty where nothing is asked.
        met: Whether it does; None where nothing is asked or nothing was measured.
        note: What else to know.
    """

    name: str
    value: float | None
    unit: str
    target: str = ""
    met: bool | None = None
    note: str = ""


class Bench:
    """Collects rows and prints each as it comes."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.nominal_per_cpu_second: dict[str, float] = {}

    def add(
        self,
        name: str,
        value: float | None,
        unit: str,
        *,
        least: float | None = None,
        most: float | None = None,
        note: str = "",
    ) -> None:
        """A figure, with the least or the most that it may be."""
        target, met = "", None
        if least is not None:
            target, met = f"≥ {least:g}", None if value is None else value >= least
        if most is not None:
            target, met = f"≤ {most:g}", None if value is None else value <= most
        self.rows.append(Row(name, value, unit, target, met, note))
        row = self.rows[-1]
        print(
            f"{row.name:<66} {_figure(row):>18}  {row.target:<7} {_assessment(row):<7} {row.note}", flush=True
        )

    def add_rate(
        self, name: str, count: int, seconds: Seconds, *, least: float | None = None, note: str = ""
    ) -> None:
        """A rate per core: by wall time, with the one by CPU time beside it where they differ."""
        wall, cpu = count / seconds.wall, count / seconds.cpu
        if abs(cpu / wall - 1) > 0.03:
            note = f"{cpu:.3g} per CPU second; " + note
        self.add(name, wall, "/s", least=least, note=note.rstrip("; "))


def _figure(row: Row) -> str:
    return "not measured" if row.value is None else f"{row.value:.3g} {row.unit}"


def _assessment(row: Row) -> str:
    return {None: "", True: "met", False: "MISSED"}[row.met]


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if "model name" in line
        )
        model = next(lines, model)
    provenance = collect_provenance()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{model}, {os.cpu_count()} logical cores",
        "system": platform.platform(),
        "commit": (provenance.commit or "release")
        + (" with uncommitted changes" if provenance.dirty else ""),
        "versions": ", ".join(f"{k} {v}" for k, v in sorted(provenance.versions.items())),
    }


def where_time_goes(pairs: Pairs) -> list[tuple[str, float]]:
    """Shares of the wall time in percent, largest first, the rest last."""
    total = pairs.seconds.wall
    shares = Counter({name: 100 * s / total for name, s in pairs.watches.seconds.items()})
    return [*shares.most_common(), ("driver, poses, modes, judging, scripts", 100 - sum(shares.values()))]


def page(
    bench: Bench, facts: dict[str, str], starts: dict[str, Seconds], runs: list[tuple[str, Pairs]]
) -> str:
    """The figures as a Markdown page."""
    lines = [
        "# What `make bench` measured",
        "",
        "Written by `python -m benchmarks.run`; one process on one core with one thread, unless a line says "
        "otherwise. Rates are by wall time; where other work ran beside, the rate per CPU second stands next "
        "to them. Imports and the making of the environments are not in the rates.",
        "",
        *(f"- {key}: {value}" for key, value in facts.items()),
        "",
        "| figure | measured | target | | |",
        "|---|---:|---:|---|---|",
        *(
            f"| {r.name} | {_figure(r)} | {r.target} | {_assessment(r).lower()} | {r.note} |"
            for r in bench.rows
        ),
        "",
        "## Where the time of generation goes",
        "",
    ]
    for words, pairs in runs:
        lines += [
            f"{words[0].upper()}{words[1:]}:",
            "",
            "| part | % of wall time |",
            "|---|---:|",
            *(f"| {name} | {share:.1f} |" for name, share in where_time_goes(pairs)),
            "",
        ]
    lines += ["## Once per process", "", "| | s |", "|---|---:|"]
    lines += [f"| {name} | {seconds.wall:.2f} |" for name, seconds in starts.items()]
    return "\n".join(lines) + "\n"
