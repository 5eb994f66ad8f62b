"""The standard terms of the field have replaced version 1's names for modules, classes and fields."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "failsafe"

REPLACED = {
    "twin": "nominal rollout",
    "lane": "partition",
    "lanejob": "partition job",
    "lanesampler": "PartitionSampler",
    "workitem": "CaseSpec",
    "finished": "CaseResult",
    "driver": "RolloutRunner",
    "interceptor": "Hook",
    "moment": "StepContext",
    "way": "RecoveryStrategy",
    "verdict": "Assessment",
    "evidence": "CUSUM detector",
    "finder": "ObjectLocalizer",
    "eye": "ImageEncoder",
    "sight": "keypoints",
    "lens": "CameraIntrinsics",
    "taught": "teacher forcing",
    "sheet": "table or frame grid",
    "film": "replay video",
    "accident": "runtime disturbance",
    "truth": "PrivilegedState",
}
"""Version 1's name in lower case, and the standard term."""

EXCEPTIONS: dict[str, str] = {}
"""`path:name` of an identifier that may stay, and why."""


def test_no_class_or_module_has_a_name_of_version_1() -> None:
    problems = [
        f"{place}: '{name}' is '{REPLACED[key]}'"
        for place, name in definitions()
        if (key := singular(name)) in REPLACED and f"{place}:{name}" not in EXCEPTIONS
    ]
    assert not problems, "\n".join(problems)


def test_no_identifier_is_a_class_of_version_1() -> None:
    """Neither a reference, an import nor an annotation names one of version 1's classes."""
    classes = {name.title() for name in REPLACED} | {"WorkItem", "LaneSampler", "LaneJob"}
    pattern = re.compile(rf"\b({'|'.join(sorted(classes))})\b")
    problems = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in modules()
        for name in identifiers(ast.parse(path.read_text()))
        if pattern.fullmatch(name) and f"{path.relative_to(PACKAGE)}:{name}" not in EXCEPTIONS
    ]
    assert not problems, "\n".join(problems)


def test_every_exception_is_in_use() -> None:
    used = {f"{place}:{name}" for place, name in definitions()}
    used |= {
        f"{path.relative_to(PACKAGE)}:{name}"
        for path in modules()
        for name in identifiers(ast.parse(path.read_text()))
    }
    assert set(EXCEPTIONS) <= used


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def definitions() -> Iterator[tuple[str, str]]:
    """Yield file and name of every module and class."""
    for path in modules():
        place = str(path.relative_to(PACKAGE))
        yield place, path.stem
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                yield place, node.name


def identifiers(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).rsplit(".", 1)[-1]


def singular(name: str) -> str:
    """Return a name in lower case, without a leading underscore and without a plural s."""
    name = name.lower().strip("_")
    return name[:-1] if name.endswith("s") and name[:-1] in REPLACED else name
