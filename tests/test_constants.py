"""No constant of one robot or simulator outside `simulators/`: the embodiment and the episode state them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import failsafe

SOURCE = Path(failsafe.__file__).parent
NUMBERS = {
    0.615: "distance of the middle of ManiSkill's table (m)",
    0.025: "translation limit of a control step (m)",
    0.125: "rotation limit of a control step (rad)",
}
"""Numbers that mean hardly anything else in this package."""
CORNERS = {(0.15, -0.6, 0.005), (0.95, 0.6, 0.7), (0.6, 0.0, 0.15)}
"""Corners and middle of the Panda's workspace above ManiSkill's table."""
ROBOTS = re.compile(r"panda|mani_?skill|\bfetch\b", re.IGNORECASE)

ALLOWED_NUMBERS = {
    "records/embodiment.py": "the embodiment of the shipped checkpoints",
    "models/version_1.py": "what checkpoints of version 1 do not state",
    "policies/contract.py": "the default of an action space; `check_fit` refuses a robot of another rate",
    "policies/openvla.py": "the rate of a served policy, which its server does not state",
    "policies/served.py": "the rate of a served policy, which its server does not state",
}
"""Files that may hold a number of one robot, with the reason."""
ALLOWED_STEPS = {
    "MAX_STEPS": "the length of an episode, which Gymnasium counts in steps",
    "JUMP_STEPS": "a multiple of the step limits, not a duration",
    "LAG_STEPS": "a multiple of the step limits, not a duration",
    "OUTSIDE_STEPS": "a multiple of the step limits, not a duration",
    "CONTINUATION_STEPS": "the length of an array in sample sets, not a duration",
    "_CHECKED_STEPS": "states compared at the end of a replay, whatever their duration",
}
"""Constants in control steps, with the reason. All others are in seconds."""
ALLOWED_NAMES = {
    "diagnostics/checks.py": "checks the installation of the extra",
    "evaluation/scenarios.py": "a scenario that exchanges the robot of a ManiSkill task",
    "envs/control_modes.py": "the control modes of the environments that `perturb` wraps",
    "envs/wrapper.py": "wraps environments of ManiSkill",
    "exports/maniskill.py": "writes the format of ManiSkill",
    "registry.py": "the module of an exporter",
    "experts/suites.py": "the name of the extra's experts in the registry",
    "records/embodiment.py": "the embodiment of the shipped checkpoints",
    "records/provenance.py": "a package whose version is recorded",
}
"""Files whose strings may name a robot or simulator, with the reason."""


def value_of(node: ast.AST | None) -> float | None:
    """The value of a number with an optional sign."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = value_of(node.operand)
        return None if value is None else -value
    is_number = isinstance(node, ast.Constant) and type(node.value) in (int, float)
    return float(node.value) if is_number else None


def assigned(node: ast.AST) -> Iterator[tuple[str, ast.AST | None]]:
    """Names and values of assignments and keyword arguments."""
    if isinstance(node, ast.keyword):
        yield node.arg or "", node.value
    elif isinstance(node, ast.AnnAssign):
        yield getattr(node.target, "id", ""), node.value
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            yield getattr(target, "id", ""), node.value


def find_numbers(tree: ast.AST) -> Iterator[str]:
    """Numbers of one robot."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and type(node.value) is float and node.value in NUMBERS:
            yield f"line {line}: {node.value} is the {NUMBERS[node.value]}"
        if isinstance(node, ast.Tuple) and tuple(map(value_of, node.elts)) in CORNERS:
            yield f"line {line}: {ast.unparse(node)} is a corner of one robot's workspace"
        for name, value in assigned(node):
            if name.lower().endswith("_hz") and value_of(value) is not None:
                yield f"line {line}: {name} is the control rate of one robot"


def find_steps(tree: ast.AST) -> Iterator[str]:
    """Durations in control steps."""
    for node in ast.walk(tree):
        for name, value in assigned(node):
            is_duration = name.isupper() and name.endswith("_STEPS") and value_of(value) is not None
            if is_duration and name not in ALLOWED_STEPS:
                yield f"line {getattr(node, 'lineno', 0)}: {name} is a duration in control steps"


def find_names(tree: ast.AST) -> Iterator[str]:
    """Strings that name a robot or a simulator, docstrings excepted."""
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in documentation:
            continue
        if isinstance(node.value, str) and ROBOTS.search(node.value):
            yield f"line {node.lineno}: {node.value[:60]!r} names one robot or simulator"


def findings(path: str, text: str) -> list[str]:
    """Everything in one file that is not allowed there."""
    tree = ast.parse(text)
    found = list(find_steps(tree))
    found += [] if path in ALLOWED_NUMBERS else find_numbers(tree)
    found += [] if path in ALLOWED_NAMES else find_names(tree)
    return [f"{path}, {each}" for each in found]


def sources() -> dict[str, str]:
    """The modules outside `simulators/`."""
    paths = {str(path.relative_to(SOURCE)): path for path in sorted(SOURCE.rglob("*.py"))}
    return {name: path.read_text() for name, path in paths.items() if not name.startswith("simulators/")}


def test_no_module_holds_a_constant_of_one_robot():
    assert [each for path, text in sources().items() for each in findings(path, text)] == []


def test_every_exception_is_still_needed():
    modules = sources()
    trees = {path: ast.parse(text) for path, text in modules.items()}
    unneeded = [path for path in ALLOWED_NUMBERS if not list(find_numbers(trees[path]))]
    unneeded += [path for path in ALLOWED_NAMES if not list(find_names(trees[path]))]
    text = "\n".join(modules.values())
    unneeded += [name for name in ALLOWED_STEPS if not re.search(rf"^{name}\b", text, re.MULTILINE)]
    assert unneeded == []


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("x = 0.615", "0.615 is the distance"),
        ("def f():\n    return [-0.025]", "line 2: 0.025 is the translation limit"),
        ("low = (0.15, -0.6, 0.005)", "is a corner"),
        ("make(control_hz=20)", "control_hz is the control rate"),
        ("rate_hz: float = 20.0", "rate_hz is the control rate"),
        ("HOLD_STEPS = 12", "HOLD_STEPS is a duration"),
        ("robot = 'panda_wristcam'", "names one robot"),
        ("raise ValueError(f'not ManiSkill: {x}')", "names one robot"),
    ],
)
def test_each_kind_is_found(text, finding):
    assert [finding in each for each in findings("models/a.py", text)] == [True]


@pytest.mark.parametrize(
    "text",
    ["'''As a Panda does.'''", "x = 0.25", "make(control_hz=rate)", "HOLD_SECONDS = 0.6", "x = 'expands'"],
)
def test_nothing_else_is_found(text):
    assert findings("models/a.py", text) == []
