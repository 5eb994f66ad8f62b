"""Only the control loop steps the simulator of an episode."""

import re
from pathlib import Path

import failsafe

SOURCE = Path(failsafe.__file__).parent


def test_no_other_module_steps_a_simulator():
    modules = {str(path.relative_to(SOURCE)): path.read_text() for path in SOURCE.rglob("*.py")}
    stepping = {name for name, text in modules.items() if re.search(r"\bsimulator\.step\(", text)}
    # Two modules of LIBERO's expert let objects settle in a simulator of their own.
    own = {"experts/libero/placements.py", "experts/libero/search.py"}
    assert {name for name in stepping if not name.startswith("simulators/")} - own == {"rollouts/loop.py"}
