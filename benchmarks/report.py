"""The figures of `benchmarks.run`: printed as they come, as a page, and with the machine they describe."""

from __future__ import annotations

import datetime
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measures import Generation, Seconds
from failsafe.records.provenance import collect_provenance


@dataclass
class Row:
    """One figure.

    Attributes:
        name: What was measured.
        value: The figure; None if it was not measured.
        unit: Its unit.
        target: The bound that it should reach, as text; empty without one.
        met: Whether it does; None without a bound, or if it was not measured.
        note: Further details.
    """

    name: str
    value: float | None
    unit: str
    target: str = ""
    met: bool | None = None
    note: str = ""


class Bench:
    """Collects figures, and prints each as it comes.

    Attributes:
        rows: The figures so far.
        nominal_per_cpu_second: Nominal rollouts per CPU second by task, which other figures refer to.
        runs: The runs of the generator, by name.
        starts: Durations of what is done once per process, by name.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.nominal_per_cpu_second: dict[str, float] = {}
        self.runs: dict[str, Generation] = {}
        self.starts: dict[str, Seconds] = {}

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
        """Add a figure.

        Args:
            name: What was measured.
            value: The figure; None if it was not measured.
            unit: Its unit.
            least: Smallest value that meets the target.
            most: Largest value that meets the target.
            note: Further details.
        """
        target, met = "", None
        if least is not None:
            target, met = f"≥ {least:g}", None if value is None else value >= least
        if most is not None:
            target, met = f"≤ {most:g}", None if value is None else value <= most
        self.rows.append(Row(name, value, unit, target, met, note))
        row = self.rows[-1]
        print(f"{row.name:<66} {_figure(row):>18}  {row.target:<7} {_outcome(row):<7} {row.note}", flush=True)

    def add_rate(
        self, name: str, count: int, seconds: Seconds, *, least: float | None = None, note: str = ""
    ) -> None:
        """Add a rate per second of wall time; the note has the one per CPU second if they differ.

        Args:
            name: What was measured.
            count: Number of occurrences.
            seconds: Time in which they occurred.
            least: Smallest rate that meets the target.
            note: Further details.
        """
        wall, cpu = count / seconds.wall, count / seconds.cpu
        if abs(cpu / wall - 1) > 0.03:
            note = f"{cpu:.3g} per CPU second; " + note
        self.add(name, wall, "/s", least=least, note=note.rstrip("; "))


def _figure(row: Row) -> str:
    return "not measured" if row.value is None else f"{row.value:.3g} {row.unit}"


def _outcome(row: Row) -> str:
    return {None: "", True: "met", False: "MISSED"}[row.met]


def machine() -> dict[str, str]:
    """Return what the figures were measured on."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text(encoding="utf-8").splitlines()
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


def time_shares(run: Generation) -> dict[str, float]:
    """Return the shares of the wall time by part in percent, largest first, the rest last."""
    shares = {name: 100 * s / run.seconds.wall for name, s in run.watches.seconds.items()}
    ordered = dict(sorted(shares.items(), key=lambda item: -item[1]))
    return {**ordered, "runner, poses, modes, judging, scripts": 100 - sum(shares.values())}


def page(bench: Bench, facts: dict[str, str]) -> str:
    """Return the figures as a Markdown page.

    Args:
        bench: The figures.
        facts: What they were measured on.
    """
    lines = [
        "# What `make bench` measured",
        "",
        "<!-- figures: page python -m benchmarks.run -->",
        "Written by `python -m benchmarks.run`: one process on one core with one thread, unless a line says "
        "otherwise. Rates are per second of wall time; the rate per CPU second is beside it if the two "
        "differ. Rates exclude imports and the construction of the environments.",
        "",
        *(f"- {key}: {value}" for key, value in facts.items()),
        "",
        "| figure | measured | target | | |",
        "|---|---:|---:|---|---|",
        *(f"| {r.name} | {_figure(r)} | {r.target} | {_outcome(r).lower()} | {r.note} |" for r in bench.rows),
        "",
        "## Where the time of generation is spent",
        "",
    ]
    for name, run in bench.runs.items():
        lines += [
            f"{name[0].upper()}{name[1:]}:",
            "",
            "| part | % of wall time |",
            "|---|---:|",
            *(f"| {part} | {share:.1f} |" for part, share in time_shares(run).items()),
            "",
        ]
    lines += ["## Once per process", "", "| | s |", "|---|---:|"]
    lines += [f"| {name} | {seconds.wall:.2f} |" for name, seconds in bench.starts.items()]
    return "\n".join(lines) + "\n"
