"""The conditions of an experiment, as the documentation shows them."""

from pathlib import Path

from failsafe.evaluation.conditions import CONDITIONS, CONTROLS, MONITOR, NEVER, WATCH, condition_table
from failsafe.monitors.settings import MonitorSettings

DOCS = Path(__file__).parents[2] / "docs" / "monitor.md"


def test_the_documentation_shows_every_condition() -> None:
    assert {NEVER, WATCH, MONITOR, *CONTROLS} <= set(CONDITIONS.registered)
    assert condition_table() in DOCS.read_text(), (
        "paste the output of: python -c 'from failsafe.evaluation.conditions import condition_table; "
        "print(condition_table(), end=str())' into docs/monitor.md"
    )


def test_only_assist_goes_on_as_the_expert() -> None:
    default = MonitorSettings()
    changed = {
        name: condition.settings(default) if condition.settings else default
        for name, condition in CONDITIONS.items()
    }
    assert [name for name, settings in changed.items() if settings.assist] == ["assist"]
    unlimited = [name for name, settings in changed.items() if settings.budget.share > 0.25]
    assert unlimited == ["assist", "model-alone"]
    assert changed["minimal"].max_corrections == 1
    assert changed["monitor"] == default
    escalating = [name for name, settings in changed.items() if settings.escalate_after is not None]
    assert escalating == ["escalate"]
    retrying = [name for name, settings in changed.items() if settings.retry_after is not None]
    assert retrying == ["retry"]
