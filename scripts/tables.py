"""Write the tables of docs/tables anew from the records beside them: `python -m scripts.tables [FOLDER]`.

The head of a page, which states its command and thresholds, stays; the tables are made from the episodes in
the Parquet file of the same name.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from failsafe.evaluation.contrasts import compare_policies
from failsafe.evaluation.episode_table import read_episode_table
from failsafe.evaluation.paired import summarise
from failsafe.reports.evaluation import summary_markdown

FIRST_POLICY = re.compile(r"(?m)^The first policy: (.+)\.$")
"""The policy of a page with which the others are compared; a page of one policy names none."""
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
    episodes = list(read_episode_table(page.with_suffix(".parquet")))
    named = FIRST_POLICY.search(before)
    others = sorted({episode.key.policy for episode in episodes} - ({named[1]} if named else set()))
    policies = [named[1], *others] if named else others
    tables = summary_markdown(summarise(episodes), compare_policies(episodes, policies))
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
