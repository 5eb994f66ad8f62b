"""Text is read and written as UTF-8, whatever the locale of the machine."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    path for folder in ("src", "scripts", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py")
]


def unstated(source: str) -> list[str]:
    """The calls of a module that read or write text in the encoding of the locale."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(k.arg == "encoding" for k in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = ast.unparse(node.func).rpartition(".")[0]
        words = {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
        words |= {
            k.value.value for k in node.keywords if k.arg == "mode" and isinstance(k.value, ast.Constant)
        }
        binary = any(word in words for word in ("rb", "wb", "ab", "xb", "r+b", "w+b"))
        if (
            (name in ("read_text", "write_text") and owner)
            or (name in ("open", "fdopen") and owner not in ("Image", "os", "archive") and not binary)
            or (name == "fdopen" and not binary)
            or (name in ("run", "Popen", "check_output") and any(k.arg == "text" for k in node.keywords))
        ):
            found.append(f"line {node.lineno}: {ast.unparse(node)[:80]}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_text_file_is_read_and_written_in_a_stated_encoding(path: Path) -> None:
    assert unstated(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "path.read_text()",
        "path.write_text(text)",
        "open('a', 'w')",
        "path.open('a')",
        "path.open()",
        "os.fdopen(handle, 'w')",
        "subprocess.run(command, text=True)",
    ],
)
def test_the_check_finds_calls_without_an_encoding(source: str) -> None:
    assert len(unstated(source)) == 1
    assert unstated(source.replace("()", "(*none)").replace(")", ", encoding='utf-8')")) == []
