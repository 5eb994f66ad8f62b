"""What a process that serves a monitor imports: models and policies, and nothing that runs physics."""

import subprocess
import sys

import pytest

FORBIDDEN = (
    "failsafe.cli",
    "failsafe.evaluation",
    "failsafe.execution",
    "failsafe.experts",
    "failsafe.generation",
    "failsafe.perturbations",
    "failsafe.reports",
    "failsafe.rollouts",
    "failsafe.simulators",
    "failsafe.training",
    "mani_skill",
    "sapien",
)


def imported_by(code: str) -> list[str]:
    """Return the modules that a fresh interpreter has imported after some code."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    "code",
    [
        "import failsafe.monitors.proxy",
        "import failsafe.monitors.monitored",
        "import failsafe.monitors.serving",
        "from failsafe.models.loading import load_model; load_model('compact')",
        "import failsafe.models.llava.model",
    ],
)
def test_serving_a_monitor_imports_nothing_that_runs_physics(code):
    modules = imported_by(code)
    assert "failsafe" in modules
    assert [m for m in modules if m.startswith(FORBIDDEN)] == []
