"""Insert figures from the records into the prose of README.md and docs/, and find figures without a record.

A figure stands between two comments, which Markdown does not show. The first one holds its key:

    success rises to <!--= weak nominal all assist success -->80.7<!--/--> %

`scripts/records.py` says what keys there are. `python -m scripts.figures` writes the figures anew from the
records; with `--check` it writes nothing, and fails if a figure differs or a result has no record.

A paragraph or table whose numbers are no results of ours begins with a comment that says what they are:

    <!-- figures: settings -->                    settings, definitions, facts of a format
    <!-- figures: quoted SOURCE -->               results of others, with their source
    <!-- figures: command COMMAND -->             results that the named command prints
    <!-- figures: example -->                     the output of an example
    <!-- figures: page COMMAND -->                anywhere: the command writes the whole page
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from scripts.records import ROOT, look_up

from failsafe.errors import UserError

FIGURE = re.compile(r"<!--= (?P<key>[^>]*?) -->(?P<text>.*?)<!--/-->", re.DOTALL)
"""A figure of the prose: its key, and the text that a reader sees."""
EXEMPT = re.compile(r"<!-- figures: (?:settings|example|quoted \S.*?|command \S.*?) -->")
"""The comment before a paragraph whose numbers are no results, or results of a command that it names."""
WRITTEN = re.compile(r"<!-- figures: page (?P<command>\S.*?) -->")
"""The comment in a page that a command writes as a whole."""
RESULT = re.compile(
    r"""\d\s?%                                  # a share
    | \bp\s?[<=]\s?0?\.\d                       # a p-value
    | \b\d[\d,.]*\s(?:of|out\sof)\s(?:the\s)?\d # a count out of a total
    | \d\s?->\s?[\d*]                           # from one rate to another
    | (?<![\w.])0\.\d{3}\b                      # an accuracy
    | [+−]\d+(?:\.\d+)?\spoints?                # a gain
    | ^\|(?:.*\|)?\s*\**[\d,.]+\**\s*\|(?:.*\|)?\s*\**[\d,.]+\**\s*\|  # a row of numbers
    | \d\s(?:\w+\s){0,2}(?:a|per)\ssecond\b | \d\s/s\b  # a speed
    """,
    re.VERBOSE,
)
"""What reads like a measured result."""
_NO_RESULT = re.compile(
    r"`[^`\n]*`|<!--.*?-->|\]\([^)]*\)|95 %\s(?:\w+\s)?(?:intervals?|confidence)", re.DOTALL
)
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def insert(text: str) -> str:
    """Return a text of Markdown with every figure as the records have it.

    Args:
        text: The Markdown.

    Raises:
        UserError: If a key names no figure.
    """
    return FIGURE.sub(lambda match: f"<!--= {match['key']} -->{look_up(match['key'])}<!--/-->", text)


def unrecorded(text: str) -> list[str]:
    """Return the lines of a text of Markdown that state a result without its record.

    Args:
        text: The Markdown.
    """
    found: list[str] = []
    if WRITTEN.search(text):
        return found
    bare = FIGURE.sub("", _FENCE.sub("", text))
    for block in re.split(r"\n\s*\n", bare):
        if EXEMPT.search(block):
            continue
        prose = _NO_RESULT.sub("", block)
        found += [line for line in prose.splitlines() if RESULT.search(line)]
    return found


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
        name = page.relative_to(ROOT)
        try:
            after = insert(before)
        except UserError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        for line in unrecorded(after):
            print(f"{name}: a result without a record: {line.strip()}")
            status = 1
        if after != before:
            print(f"{name}: {'differs from the records' if check else 'written'}")
            status = max(status, int(check))
            if not check:
                page.write_text(after, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
