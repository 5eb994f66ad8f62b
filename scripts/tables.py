"""Write the tables of docs/tables anew from the records beside them: `python -m scripts.tables [FOLDER]`.

The head of a page, which states its command and thresholds, stays; the tables are made from the episodes in
the Parquet file of the same name.
"""

from __future__ import annotations

import sys
from pathlib import Path

from failsafe.evaluation.episode_table import read_episode_table
from failsafe.evaluation.paired import summarise
from failsafe.reports.evaluation import summary_markdown

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "tables"


def rewrite(page: Path) -> bool:
    """Write a page of tables from its records, and return whether that changed it.

    Args:
        page: The Markdown file.
    """
    before = page.read_text(encoding="utf-8")
    head, found, _ = before.partition("\n### ")
    if not found:
        raise SystemExit(
            f"expected a table under a heading, got {page}, which has none: write it by failsafe report"
        )
    tables = summary_markdown(summarise(read_episode_table(page.with_suffix(".parquet"))))
    after = f"{head}\n{tables.rstrip()}\n"
    differs = after.rstrip() != before.rstrip()
    if differs:
        page.write_text(after, encoding="utf-8")
    return differs


def main() -> None:
    """Write all pages of a folder."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for records in sorted(folder.glob("*.parquet")):
        if rewrite(records.with_suffix(".md")):
            print(f"{records.with_suffix('.md')}: written")


if __name__ == "__main__":
    main()
