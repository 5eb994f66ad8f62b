"""The report of an evaluation: a self-contained page, text for a terminal, and Markdown for the docs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from failsafe.datasets.files import write_atomically
from failsafe.evaluation.conditions import NEVER
from failsafe.evaluation.config import StudyItem, study_items
from failsafe.evaluation.contrasts import Contrast, compare_policies
from failsafe.evaluation.notes import find_faults, notes
from failsafe.evaluation.paired import (
    ALL_TASKS,
    NOMINAL,
    Change,
    Pair,
    Row,
    Summary,
    pairs_of,
    summarise,
)
from failsafe.evaluation.replay_videos import CONDITIONS, ReplayVideo, choose, video_folder
from failsafe.evaluation.results import Results, StudyManifest
from failsafe.evaluation.scenarios import scenario
from failsafe.evaluation.statistics import wilson
from failsafe.records.provenance import Provenance
from failsafe.reports.coverage_charts import Histogram
from failsafe.reports.evaluation_cells import share
from failsafe.reports.evaluation_charts import (
    MARKS,
    TimeLine,
    alarm_chart,
    curve_charts,
    delay_charts,
    success_charts,
    time_line,
)
from failsafe.reports.evaluation_tables import (
    ALARMED,
    cells_table,
    confusion_table,
    contrast_table,
    curve_table,
    effort_table,
    headlines,
    narrow_tables,
    overview_table,
    wide_tables,
)
from failsafe.reports.gallery_cases import plain_frames
from failsafe.reports.pages import inline, render
from failsafe.reports.tables import Table, table_markdown, table_text

VIDEOS = "videos"
"""Folder of the replay videos, beside the page."""
TIME_LINES = 3
"""Episodes of each kind whose time lines are shown if there are no replay videos."""
_STYLES = ("gallery.css", "coverage.css", "scores.css", "evaluation.css")
_SCRIPTS = ("coverage.js", "dom.js", "player.js", "transport.js", "videos.js")


@dataclass(frozen=True)
class Shown:
    """An episode that the page shows in detail.

    Attributes:
        pair: The episode with the monitor and without.
        line: Its time line.
        video: Its replay video, None if none was requested.
        notes: Why there is no video, or how the video differs from the record.
    """

    pair: Pair
    line: TimeLine
    video: ReplayVideo | None
    notes: list[str]


@dataclass(frozen=True)
class Alarms:
    """Outcomes of a policy's episodes with an alarm, in all scenarios.

    Attributes:
        policy: Name of the policy.
        episodes: Number of its episodes.
        alarmed: Number of episodes with an alarm.
        confusion: Table of true and reported modes.
        charts: Histograms of the alarms.
    """

    policy: str
    episodes: int
    alarmed: int
    confusion: Table
    charts: tuple[Histogram, ...]


def format_summary(summary: Summary, width: int | None = None) -> str:
    """Return the tables of an evaluation as plain text, one for each scenario and policy.

    Args:
        summary: Summary of the results.
        width: Characters per line; by default the width of the terminal. Names are never truncated.
    """
    tables = [table_text(table, width) for table in narrow_tables(summary)]
    return "\n\n".join([*tables, *limited_notes(summary)])


def limited_notes(summary: Summary) -> list[str]:
    """Return a sentence for each policy whose steps were larger than the robot's limits.

    Args:
        summary: Summary of the results.
    """
    largest: dict[str, Row] = {}
    for row in summary.rows:
        if row.condition == NEVER and row.task != ALL_TASKS and row.limited:
            known = largest.get(row.policy, row)
            largest[row.policy] = row if row.limited > (known.limited or 0.0) else known
    return [
        f"{policy}, {row.task}, scenario {row.scenario}: {share(row.limited)} of the control steps asked for "
        "more than the robot's step limits, and were shortened; no other task or scenario has a larger share"
        for policy, row in largest.items()
    ]


def summary_markdown(summary: Summary, contrasts: Sequence[Contrast] = ()) -> str:
    """Return the tables of an evaluation as Markdown: policies; tasks and conditions; step limits; costs.

    Args:
        summary: The summary of its episodes.
        contrasts: Its policies compared with the first one, where there are several.
    """
    first = (contrast_table(contrasts), overview_table(summary))
    tables = [table for table in first if table is not None]
    tables += [*wide_tables(summary), curve_table(summary), effort_table(summary)]
    return "\n\n".join(table_markdown(table, intervals=True) for table in tables) + "\n"


def tables_markdown(results: Results, summary: Summary) -> str:
    """Return the tables for the docs, headed by their origin.

    Args:
        results: The results.
        summary: Their summary.
    """
    made = results.manifest
    thresholds = [
        f'- {policy}, "{description}": alarm above {t.value:.4f}'
        if t.value is not None
        else f'- {policy}, "{description}": no alarm, for {t.episodes} successes are too few to promise it'
        for policy, found in made.config.calibrations.items()
        for description, t in found.thresholds.items()
    ]
    head = [
        "# The tables of the study",
        "",
        "Written by `make tables`; the records of all episodes are in the Parquet file of the same name.",
        "",
        f"Command: `{made.command}`, {_commit(made.provenance)}.",
        "Intervals are Wilson's, 95 %; those of shares of steps are from a bootstrap over episodes.",
        "p is McNemar's exact test against the policy alone on the same seeds.",
        "In rows of all perturbations an initial state counts several times: there intervals are from a",
        "bootstrap over states, and p is an exact sign-flip test on the sums over each state.",
        "Monitor acts: share of the control steps, of all episodes and of rescued ones.",
        "Ends under policy: rescued episodes in which the base policy acts during the last 0.6 s.",
        "",
        *thresholds,
        "",
    ]
    tables = summary_markdown(summary, compare_policies(results.episodes(), made.config.policies))
    return "\n".join(head) + "\n" + tables + "\n"


def _commit(provenance: Provenance) -> str:
    changed = " with changes" if provenance.dirty else ""
    return f"commit {provenance.commit[:12]}{changed}"


def write_report(results: Results, path: Path, videos: Sequence[ReplayVideo] = ()) -> Path:
    """Write the page of an evaluation; equal results give equal pages.

    Args:
        results: The results.
        path: The page.
        videos: Replay videos in the folder `VIDEOS` beside the page.

    Returns:
        Path of the page.

    Raises:
        UserError: If there are no results.
        StoreError: If the page cannot be written.
    """
    write_atomically(path, render_report(results, videos).encode())
    return path


def render_report(results: Results, videos: Sequence[ReplayVideo] = ()) -> str:
    """Return the page as HTML.

    Args:
        results: The results.
        videos: Replay videos of some episodes.
    """
    manifest, episodes = results.manifest, list(results.episodes())
    config, summary, pairs = manifest.config, summarise(episodes), pairs_of(episodes)
    shown = _shown(pairs, videos)
    table = cells_table(summary)
    return render(
        "evaluation.html.jinja",
        {"share": share},
        style=inline(*_STYLES),
        script=inline(*_SCRIPTS),
        config=config,
        manifest=manifest,
        headlines=headlines(summary),
        recorded=len(episodes),
        planned=len(study_items(config)) * len({"never", *config.conditions}),
        table=table,
        filters={
            name: list(dict.fromkeys(row[i].text for row in table.rows))
            for i, name in enumerate(table.head[: table.names])
        },
        charts=success_charts(summary),
        curves=curve_charts(summary),
        curve_table=curve_table(summary),
        compared=contrast_table(compare_policies(episodes, config.policies)),
        alarms=[_alarms(policy, pairs, config.limits.max_steps) for policy in config.policies],
        outcomes=list(ALARMED.values()),
        shown=shown,
        kinds=[change.value for change in Change],
        cameras=_cameras(shown),
        marks=MARKS,
        data=_script_data(shown),
        thresholds=_thresholds(manifest, pairs),
        notes=notes(manifest, find_faults(episodes)),
        scenarios=[scenario(name) for name in config.scenarios],
    )


def _alarms(policy: str, every: Sequence[Pair], max_steps: int) -> Alarms:
    pairs = [pair for pair in every if pair.alone.key.policy == policy]
    alarmed = sum(pair.first_alarm is not None for pair in pairs)
    charts = (alarm_chart(pairs, max_steps), *delay_charts(pairs))
    return Alarms(policy, len(pairs), alarmed, confusion_table(pairs), charts)


def _shown(pairs: Sequence[Pair], videos: Sequence[ReplayVideo]) -> list[Shown]:
    by_episode = {video.item: video for video in videos}
    chosen = (
        [pair for pair in pairs if _cell(pair) in by_episode] if by_episode else choose(pairs, TIME_LINES)
    )
    shown: list[Shown] = []
    for pair in sorted(chosen, key=lambda pair: list(Change).index(pair.change)):
        video, notes = by_episode.get(_cell(pair)), list[str]()
        if video and video.frames is None:
            notes.append(f"No replay video: {video.description}.")
        elif video:
            for condition, recorded, ending in zip(
                CONDITIONS, (pair.alone, pair.under), video.endings, strict=True
            ):
                if not video.repeats(condition, recorded):
                    notes.append(
                        f"The second run of “{condition}” ended differently ({ending.value}) from the "
                        f"recorded one ({recorded.ending.value} after {recorded.steps} steps): the video "
                        "shows the second run, the time line the recorded one."
                    )
        shown.append(Shown(pair, time_line(pair), video, notes))
    return shown


def _cell(pair: Pair) -> StudyItem:
    key = pair.alone.key
    return StudyItem(key.task, key.scenario, key.policy, key.seed)


def _cameras(shown: Sequence[Shown]) -> list[str]:
    frames = [item.video.frames for item in shown if item.video and item.video.frames]
    return list(dict.fromkeys(camera.name for index in frames for camera in index.cameras))


def _script_data(shown: Sequence[Shown]) -> Markup:
    """Return the data of the page's script, in the order of the page."""
    videos: list[dict[str, Any] | None] = []
    for item in shown:
        video = item.video
        if video is None or video.frames is None:
            videos.append(None)
            continue
        endings = [ending.value.replace("_", " ") for ending in video.endings]
        videos.append(
            {
                "folder": quote(video_folder(Path(), video.item).as_posix()),
                "frames": plain_frames(video.frames),
                "endings": dict(zip(CONDITIONS, endings, strict=True)),
                "acting": item.line.acting,
                "marks": [(kind.value, MARKS[kind], step) for step, kind, _ in item.line.marks],
            }
        )
    # Text that contains "</script>" must not end the script.
    plain = json.dumps({"base": VIDEOS, "videos": videos}, separators=(",", ":")).replace("<", "\\u003c")
    return Markup(f"window.FAILSAFE = {plain};")


def _thresholds(manifest: StudyManifest, pairs: Sequence[Pair]) -> list[tuple[str, ...]]:
    """Return the cells of each threshold, with its promise and the false-alarm rate that came out."""
    config, rows = manifest.config, list[tuple[str, ...]]()
    for policy in config.policies:
        found = config.calibrations.get(policy)
        if found is None:
            came_out = _false_alarms(pairs, policy)
            rows.append(
                (
                    policy,
                    "every instruction",
                    f"{config.threshold:g}",
                    "–",
                    "–",
                    "nothing",
                    came_out,
                    "chosen",
                )
            )
            continue
        for instruction, threshold in found.thresholds.items():
            value = "no alarms: too few episodes" if threshold.value is None else f"{threshold.value:.4f}"
            bound = f"at most {100 * found.alpha:g} %"
            promise = threshold.promise or (
                f"{bound}, all instructions together" if threshold.pooled else bound
            )
            numbers = (value, f"{found.alpha:g}", str(threshold.episodes))
            came_out = _false_alarms(pairs, policy, instruction)
            rows.append((policy, instruction, *numbers, promise, came_out, found.command))
    return rows


def _false_alarms(pairs: Sequence[Pair], policy: str, instruction: str | None = None) -> str:
    """Return the share of the policy's own undisturbed successes in the nominal scenario with an alarm."""
    false = [
        alarmed
        for pair in pairs
        if pair.alone.key.policy == policy
        and pair.alone.key.scenario == NOMINAL
        and instruction in (None, pair.alone.instruction)
        and (alarmed := pair.false_alarm) is not None
    ]
    interval = wilson(sum(false), len(false))
    if interval is None:
        return "–"
    rate = f"{100 * sum(false) / len(false):.1f} %"
    return f"{rate} ({100 * interval[0]:.0f} to {100 * interval[1]:.0f}), {sum(false)} of {len(false)}"
