"""Every public function, method and class of FailSafe documents its arguments and errors."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "failsafe"
MODULES = sorted(PACKAGE.rglob("*.py"))

Function = ast.FunctionDef | ast.AsyncFunctionDef
INHERITED = re.compile(r"[Ss]ee `[\w.]+`")
SIGNALS = {"Broken"}
"""How a rule of a conformance suite reports a violation: the suite catches it, no caller sees it."""


def test_every_argument_is_documented() -> None:
    """Two or more arguments: `Args:` (of a dataclass: `Attributes:`) names each of them."""
    problems = [problem for path in MODULES for problem in undocumented_arguments(path)]
    assert not problems, "\n".join(problems)


def test_every_raised_error_is_documented() -> None:
    """A function whose own body raises an error has a `Raises:` section."""
    problems = [problem for path in MODULES for problem in undocumented_errors(path)]
    assert not problems, "\n".join(problems)


def undocumented_arguments(path: Path) -> Iterator[str]:
    for node, owner in public_definitions(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            yield from _undocumented_in_class(path, node)
        elif node.name != "__init__":
            doc = ast.get_docstring(node) or ""
            yield from _report(path, node, doc, _argument_names(node, owner), ("Args",))


def undocumented_errors(path: Path) -> Iterator[str]:
    for node, owner in public_definitions(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            continue
        doc = ast.get_docstring(node) or ""
        if node.name == "__init__" and owner is not None:
            doc += "\n" + (ast.get_docstring(owner) or "")
        raised = sorted(set(_raised(node)))
        if raised and not INHERITED.search(doc) and not re.search(r"^\s*Raises:$", doc, re.M):
            yield f"{_place(path, node)} raises {', '.join(raised)} without `Raises:`"


def public_definitions(
    tree: ast.Module | ast.ClassDef, owner: ast.ClassDef | None = None
) -> Iterator[tuple[Function | ast.ClassDef, ast.ClassDef | None]]:
    """Yield public functions, methods, constructors and classes, with the class around each."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node, owner
            yield from public_definitions(node, node)
        elif (
            isinstance(node, Function)
            and (not node.name.startswith("_") or node.name == "__init__")
            and not _is_overload(node)
        ):
            yield node, owner


def _undocumented_in_class(path: Path, node: ast.ClassDef) -> Iterator[str]:
    doc = ast.get_docstring(node) or ""
    if _is_dataclass(node):
        yield from _report(path, node, doc, _field_names(node), ("Attributes", "Args"))
    for item in node.body:
        if isinstance(item, Function) and item.name == "__init__":
            doc += "\n\n" + (ast.get_docstring(item) or "")
            yield from _report(path, node, doc, _argument_names(item, node), ("Args",))


def _report(
    path: Path, node: Function | ast.ClassDef, doc: str, names: list[str], titles: tuple[str, ...]
) -> Iterator[str]:
    if len(names) < 2 or INHERITED.search(doc):
        return
    documented = set[str]().union(*(_documented(doc, title) for title in titles))
    missing = [name for name in names if name not in documented]
    if missing:
        yield f"{_place(path, node)} does not document {', '.join(missing)}"


def _documented(doc: str, title: str) -> set[str]:
    """Return the names that a section of a Google-style docstring describes."""
    section = re.search(rf"^( *){title}:\n(.*?)(?=^\1\S|\Z)", doc, re.M | re.S)
    if section is None:
        return set()
    entry = re.compile(r"^\s+((?:\*{0,2}`?\w+`?(?:, | and )?)+)(?: \([^\n]*\))?:", re.M)
    return {name for found in entry.findall(section[2]) for name in re.findall(r"\w+", found)}


def _argument_names(node: Function, owner: ast.ClassDef | None) -> list[str]:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    if owner is not None and not _has_decorator(node, "staticmethod"):
        positional = positional[1:]
    rest = [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
    names = [each.arg for each in (*positional, *arguments.kwonlyargs, *rest)]
    return [name for name in names if not name.startswith("_")]


def _field_names(node: ast.ClassDef) -> list[str]:
    return [
        item.target.id
        for item in node.body
        if isinstance(item, ast.AnnAssign)
        and isinstance(item.target, ast.Name)
        and not item.target.id.startswith("_")
        and "ClassVar" not in ast.unparse(item.annotation)
        and "init=False" not in (ast.unparse(item.value) if item.value else "")
    ]


def _raised(node: ast.AST) -> Iterator[str]:
    """Yield the errors raised in a function's own body, those it also catches left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(child, ast.Try) and any(_catches_all(each) for each in child.handlers):
            for part in (*child.handlers, *child.orelse, *child.finalbody):
                yield from _raised(part)
            continue
        if isinstance(child, ast.Raise) and child.exc is not None:
            error = child.exc.func if isinstance(child.exc, ast.Call) else child.exc
            name = ast.unparse(error).rsplit(".", 1)[-1]
            if name[:1].isupper() and name not in SIGNALS:
                yield name
        yield from _raised(child)


def _catches_all(handler: ast.ExceptHandler) -> bool:
    return handler.type is not None and ast.unparse(handler.type) == "Exception"


def _is_dataclass(node: ast.ClassDef) -> bool:
    return _has_decorator(node, "dataclass")


def _is_overload(node: Function) -> bool:
    return _has_decorator(node, "overload")


def _has_decorator(node: Function | ast.ClassDef, name: str) -> bool:
    return any(name in ast.unparse(each) for each in node.decorator_list)


def _place(path: Path, node: Function | ast.ClassDef) -> str:
    return f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}"
