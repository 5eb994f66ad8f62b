"""The report of a study: one page that opens from disk, text for a terminal, and Markdown for the docs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from failsafe.datasets.files import write_atomically
from failsafe.evaluation.films import ARMS, Film, choose, film_folder
from failsafe.evaluation.paired import Change, Pair, Summary, pairs_of, summarise
from failsafe.evaluation.scenarios import scenario
from failsafe.evaluation.study import Cell, Results, StudyManifest, cells_of
from failsafe.records.provenance import Provenance
from failsafe.reports.coverage_charts import Histogram
from failsafe.reports.evaluation_charts import (
    MARKS,
    TimeLine,
    alarm_chart,
    delay_charts,
    success_charts,
    time_line,
)
from failsafe.reports.evaluation_sheets import (
    ALARMED,
    cells_sheet,
    confusion_sheet,
    effort_sheet,
    headlines,
    narrow_sheets,
    overview_sheet,
    share,
    wide_sheets,
)
from failsafe.reports.gallery_cases import plain_frames
from failsafe.reports.pages import inline, render
from failsafe.reports.sheets import Sheet, sheet_markdown, sheet_text

FILMS = "films"
"""Folder of the films, beside the page."""
UNFILMED = 3
"""Episodes of each kind whose time lines are shown where there are no films."""
_STYLES = ("gallery.css", "coverage.css", "scores.css", "evaluation.css")
_SCRIPTS = ("coverage.js", "dom.js", "player.js", "transport.js", "films.js")


@dataclass(frozen=True)
class Shown:
    """An episode that the page shows in detail.

    Attributes:
        pair: With the monitor and without.
        line: What the monitor saw and did.
        film: The film, None where none was asked for.
        notes: What else there is to know: why there is no film, or that it is not what is recorded.
    """

    pair: Pair
    line: TimeLine
    film: Film | None
    notes: list[str]


@dataclass(frozen=True)
class Alarms:
    """What came of the episodes of a policy in which there was an alarm, in all scenarios."""

    policy: str
    episodes: int
    alarmed: int
    confusion: Sheet
    charts: tuple[Histogram, ...]


def format_summary(summary: Summary, width: int | None = None) -> str:
    """The tables of a study as plain text, one for each scenario and policy.

    Args:
        summary: What the study came to.
        width: Characters in a line; by default what the terminal has. No name is ever cut short.
    """
    return "\n\n".join(sheet_text(sheet, width) for sheet in narrow_sheets(summary))


def summary_markdown(summary: Summary) -> str:
    """The tables of a study as Markdown: tasks in rows, arms in columns with 95 % intervals; what it took."""
    overview = overview_sheet(summary)
    sheets = [*wide_sheets(summary), effort_sheet(summary)]
    if overview is not None:
        sheets.insert(0, overview)
    return "\n\n".join(sheet_markdown(sheet, intervals=True) for sheet in sheets) + "\n"


def tables_markdown(results: Results, summary: Summary) -> str:
    """The tables for the docs, with where they come from above them."""
    made = results.manifest
    thresholds = [
        f'- {policy}, "{words}": alarm above {t.value:.4f}'
        if t.value is not None
        else f'- {policy}, "{words}": no alarm, for {t.episodes} successes are too few to promise it'
        for policy, found in made.config.calibrations.items()
        for words, t in found.thresholds.items()
    ]
    head = [
        "# The tables of the study",
        "",
        "Written by `make tables`; the records of all episodes are in the Parquet file of the same name.",
        "",
        f"Command: `{made.command}`, {_commit(made.provenance)}.",
        "Intervals are Wilson's, 95 %; p is McNemar's exact test against the policy alone on the same seeds.",
        "",
        *thresholds,
        "",
    ]
    return "\n".join(head) + "\n" + summary_markdown(summary) + "\n"


def _commit(provenance: Provenance) -> str:
    changed = " with changes" if provenance.dirty else ""
    return f"commit {provenance.commit[:12]}{changed}"


def write_report(results: Results, path: Path, films: Sequence[Film] = ()) -> Path:
    """Write the page of a study; equal results give equal pages.

    Args:
        results: The study.
        path: The page.
        films: What was filmed into the folder `FILMS` beside the page.

    Returns:
        The page to open.

    Raises:
        UserError: If there are no results.
        StoreError: If the page cannot be written.
    """
    write_atomically(path, render_report(results, films).encode())
    return path


def render_report(results: Results, films: Sequence[Film] = ()) -> str:
    """The page as HTML."""
    manifest, episodes = results.manifest, list(results.episodes())
    config, summary, pairs = manifest.config, summarise(episodes), pairs_of(episodes)
    shown = _shown(pairs, films)
    sheet = cells_sheet(summary)
    return render(
        "evaluation.html.jinja",
        {"share": share},
        style=inline(*_STYLES),
        script=inline(*_SCRIPTS),
        config=config,
        manifest=manifest,
        headlines=headlines(summary),
        recorded=len(episodes),
        planned=len(cells_of(config)) * len({"never", *config.arms}),
        sheet=sheet,
        filters={
            name: list(dict.fromkeys(row[i].text for row in sheet.rows))
            for i, name in enumerate(sheet.head[: sheet.names])
        },
        charts=success_charts(summary),
        alarms=[_alarms(policy, pairs, config.limits.max_steps) for policy in config.policies],
        outcomes=list(ALARMED.values()),
        shown=shown,
        kinds=[change.value for change in Change],
        cameras=_cameras(shown),
        marks=MARKS,
        data=_script_data(shown),
        thresholds=_thresholds(manifest),
        scenarios=[scenario(name) for name in config.scenarios],
    )


def _alarms(policy: str, every: Sequence[Pair], max_steps: int) -> Alarms:
    pairs = [pair for pair in every if pair.alone.key.policy == policy]
    alarmed = sum(pair.first_alarm is not None for pair in pairs)
    charts = (alarm_chart(pairs, max_steps), *delay_charts(pairs))
    return Alarms(policy, len(pairs), alarmed, confusion_sheet(pairs), charts)


def _shown(pairs: Sequence[Pair], films: Sequence[Film]) -> list[Shown]:
    filmed = {film.cell: film for film in films}
    chosen = [pair for pair in pairs if _cell(pair) in filmed] if filmed else choose(pairs, UNFILMED)
    shown: list[Shown] = []
    for pair in sorted(chosen, key=lambda pair: list(Change).index(pair.change)):
        film, notes = filmed.get(_cell(pair)), list[str]()
        if film and film.frames is None:
            notes.append(f"It could not be filmed: {film.words}.")
        elif film:
            for arm, recorded, ending in zip(ARMS, (pair.alone, pair.under), film.endings, strict=True):
                if not film.repeats(arm, recorded):
                    notes.append(
                        f"Run again for the film, the arm “{arm}” ended otherwise ({ending.value}) than is "
                        f"recorded ({recorded.ending.value} after {recorded.steps} steps): the film is of "
                        "the second run, the time line of the first."
                    )
        shown.append(Shown(pair, time_line(pair), film, notes))
    return shown


def _cell(pair: Pair) -> Cell:
    key = pair.alone.key
    return Cell(key.task, key.scenario, key.policy, key.seed)


def _cameras(shown: Sequence[Shown]) -> list[str]:
    frames = [item.film.frames for item in shown if item.film and item.film.frames]
    return list(dict.fromkeys(camera.name for index in frames for camera in index.cameras))


def _script_data(shown: Sequence[Shown]) -> Markup:
    """What the script plays, in the order of the page."""
    films: list[dict[str, Any] | None] = []
    for item in shown:
        film = item.film
        if film is None or film.frames is None:
            films.append(None)
            continue
        endings = [ending.value.replace("_", " ") for ending in film.endings]
        films.append(
            {
                "folder": quote(film_folder(Path(), film.cell).as_posix()),
                "frames": plain_frames(film.frames),
                "endings": dict(zip(ARMS, endings, strict=True)),
                "acting": item.line.acting,
                "marks": [(kind.value, MARKS[kind], step) for step, kind, _ in item.line.marks],
            }
        )
    # A text that holds "</script>" must not end the script.
    plain = json.dumps({"base": FILMS, "films": films}, separators=(",", ":")).replace("<", "\\u003c")
    return Markup(f"window.FAILSAFE = {plain};")


def _thresholds(manifest: StudyManifest) -> list[tuple[str, ...]]:
    """Policy, instruction, threshold, alpha, number of episodes and the command that made it, as texts."""
    config, rows = manifest.config, list[tuple[str, ...]]()
    for policy in config.policies:
        found = config.calibrations.get(policy)
        if found is None:
            rows.append((policy, "every instruction", f"{config.threshold:g}", "–", "–", "chosen by hand"))
            continue
        for instruction, threshold in found.thresholds.items():
            value = "no alarms: too few episodes" if threshold.value is None else f"{threshold.value:.4f}"
            rows.append(
                (policy, instruction, value, f"{found.alpha:g}", str(threshold.episodes), found.command)
            )
    return rows
