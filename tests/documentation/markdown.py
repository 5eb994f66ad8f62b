"""Snippets of Markdown pages: the code blocks and commands that the documentation tells a reader to run."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SHELLS = ("", "bash", "sh", "console", "shell")
"""Languages of blocks that hold commands; many of ours state none."""
PARSE = "<!-- test: parse -->"
"""On the line before a Python block: it is compiled and its imports are run, the rest is not."""

_BLOCK = re.compile(r"^(?P<mark><!-- test: \w+ -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)
_INLINE = re.compile(r"(?<!`)`(failsafe [^`]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        page: Name of the page.
        language: Language of the block, empty if the page states none.
        code: The text.
        runs: Whether a Python block is meant to run as it stands.
    """

    page: str
    language: str
    code: str
    runs: bool


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the code blocks of a page in some languages.

    Args:
        page: The page.
        languages: The languages.
    """
    return [
        Block(page.name, found["language"], found["code"], PARSE not in (found["mark"] or ""))
        for found in _BLOCK.finditer(page.read_text())
        if found["language"] in languages
    ]


def commands(page: Path) -> list[list[str]]:
    """Return the commands of a page as words: those of shell blocks, and `failsafe ...` in running text.

    Args:
        page: The page.
    """
    inline = [found.replace("\n", " ") for found in _INLINE.findall(_BLOCK.sub("", page.read_text()))]
    return commands_in("\n".join([*(block.code for block in blocks(page, *SHELLS)), *inline]))


def commands_in(text: str) -> list[list[str]]:
    """Return the commands of a shell script as words.

    Args:
        text: The script.
    """
    return [command for line in text.replace("\\\n", " ").splitlines() for command in _split(line)]


def _split(line: str) -> list[list[str]]:
    """Split a line into simple commands, without environment variables, prompts and comments."""
    lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # prose with an apostrophe
        return []
    found: list[list[str]] = [[]]
    for word in words:
        if set(word) <= set("|&;"):
            found.append([])
        elif found[-1] or not re.fullmatch(r"[A-Z_]+=.*", word):
            found[-1].append(word)
    return [command for command in found if command]
