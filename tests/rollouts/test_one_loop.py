"""Only the control loop steps a simulator."""

import re
from pathlib import Path

import failsafe

SOURCE = Path(failsafe.__file__).parent


def test_no_other_module_steps_a_simulator():
    modules = {str(path.relative_to(SOURCE)): path.read_text() for path in SOURCE.rglob("*.py")}
    stepping = {name for name, text in modules.items() if re.search(r"\bsimulator\.step\(", text)}
    assert {name for name in stepping if not name.startswith("simulators/")} == {"rollouts/loop.py"}
