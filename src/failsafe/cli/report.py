"""`failsafe report`: the page of an evaluation, with videos of single episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tyro

from failsafe.cli.execution import DEFAULT, ExecutionOptions
from failsafe.cli.output import ProgressReporter, print_json
from failsafe.datasets.files import write_atomically
from failsafe.errors import UserError
from failsafe.evaluation.contrasts import compare_studies
from failsafe.evaluation.episode_table import write_episode_table
from failsafe.evaluation.notes import find_faults, notes
from failsafe.evaluation.paired import Summary, pairs_of, summarise
from failsafe.evaluation.replay_videos import choose, make_replay_videos
from failsafe.evaluation.results import Results
from failsafe.execution.contract import Executor
from failsafe.records import codec
from failsafe.reports.evaluation import VIDEOS, format_summary, tables_markdown, write_report
from failsafe.reports.evaluation_tables import contrast_table
from failsafe.reports.tables import table_text


def report(
    results: tyro.conf.Positional[Path],
    shards: tyro.conf.Positional[tuple[Path, ...]] = (),
    /,
    out: Path | None = None,
    videos: int = 3,
    tables: Path | None = None,
    episode_table: Path | None = None,
    against: Path | None = None,
    execution: ExecutionOptions = DEFAULT,
    json: bool = False,
) -> int:
    """Write the page of an evaluation, and print its tables.

    Args:
        results: Folder of the results.
        shards: Folders of shards of the same evaluation, whose episodes are copied to the results first.
        out: The page; report.html in the folder of the results by default.
        videos: Largest number of videos of each kind (rescued, harmed, still failed); 0 for none. Their
            episodes are run again.
        tables: Also write the tables as Markdown to this file.
        episode_table: Also write the records of all episodes to this Parquet file.
        against: Results of another evaluation on the same seeds, with another recovery model for example:
            every condition is also compared with the first policy there, alone and with the monitor.
        execution: Where it runs.
        json: Print the summary as JSON.
    """
    study = Results(results)
    study.take_in(shards)
    run_on = execution.load()
    summary, page = publish(study, out or results / "report.html", videos, run_on, json)
    if tables is not None:
        write_atomically(tables, tables_markdown(study, summary).encode())
    if episode_table is not None:
        write_episode_table(study.episodes(), episode_table)
    said = notes(study.manifest, find_faults(study.episodes()))
    if against is not None:
        said = [*said, _comparison(study, Results(against))]
    print_summary(summary, page, json, said)
    return 0


def _comparison(study: Results, other: Results) -> str:
    """Return the comparison of two studies as text.

    Raises:
        UserError: If they have no initial state in common.
    """
    base = other.manifest.config.policies[0]
    table = contrast_table(compare_studies(study.episodes(), other.episodes(), base))
    if table is None:
        raise UserError(
            f"expected results of the same tasks, scenarios and seeds in {other.path}, got none that "
            f"{study.path} has as well"
        )
    return table_text(replace(table, title=f"Compared with {other.path}"), None)


def publish(
    results: Results, page: Path, videos: int, executor: Executor, quiet: bool
) -> tuple[Summary, Path]:
    """Render videos of a few episodes, and write the page.

    Args:
        results: The results.
        page: File of the page.
        videos: Largest number of videos of each kind.
        executor: Renders the videos.
        quiet: Show no progress.

    Returns:
        The summary, and the page.

    Raises:
        UserError: If there are no results, or the number is negative.
    """
    if videos < 0:
        raise UserError(f"expected --videos to be at least 0, got {videos}")
    episodes = list(results.episodes())
    chosen = choose(pairs_of(episodes), videos)
    with ProgressReporter("videos", len(chosen), quiet or not chosen) as reporter:
        made = make_replay_videos(results, chosen, page.parent / VIDEOS, executor, reporter.advance)
    return summarise(episodes), write_report(results, page, made)


def print_summary(summary: Summary, page: Path, json: bool, said: Sequence[str] = ()) -> None:
    """Print the summary of an evaluation, what must be known beside it, and where its page is.

    Args:
        summary: The summary.
        page: The page.
        json: Print JSON.
        said: The notes of the evaluation (`failsafe.evaluation.notes`).
    """
    if json:
        print_json({"page": str(page.resolve()), "summary": codec.to_plain(summary), "notes": list(said)})
    else:
        print("\n".join([format_summary(summary), *said, f"page: {page.resolve()}"]))
