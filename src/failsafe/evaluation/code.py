"""The code that determines the episodes of a study, and how two studies differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from failsafe.evaluation.conditions import CONDITIONS
from failsafe.evaluation.config import StudyConfig
from failsafe.evaluation.scenarios import JOINT, SCENARIOS, scenario
from failsafe.experts.tasks import Task, task_code, task_name
from failsafe.perturbations import MODES
from failsafe.sources import OWN, changed_code, own_version

_NAMES = {"first_seed": "seeds", "last_seed": "seeds", "monitor": "recovery model", "limits": "max_steps"}
"""What users call the fields of `StudyConfig`, where that is another name."""


def study_code(
    tasks: Sequence[str | Task], scenarios: Sequence[str], conditions: Sequence[str]
) -> dict[str, str]:
    """Return the version of FailSafe, and the fingerprint of every part of a study that is not its own code.

    A user's function, class or plugin is known by its sources (`failsafe.sources`). Policies and recovery
    models have fields of their own in `StudyConfig`.

    Args:
        tasks: The tasks: names, or objects.
        scenarios: Names of the scenarios.
        conditions: Names of the conditions.

    Returns:
        The fingerprint of each part by its name, for example "task my_tasks:pour".
    """
    replaced = [task for name in scenarios for task in scenario(name).tasks.values()]
    code = {f"task {task_name(task)}": task_code(task) for task in (*tasks, *replaced)}
    for part in {part for name in scenarios for part in name.split(JOINT)}:
        mode = part.partition(":")[0]
        named = part in SCENARIOS or mode not in MODES
        code[f"scenario {part}"] = SCENARIOS.version_of(part) if named else MODES.version_of(mode)
    code |= {f"condition {name}": CONDITIONS.version_of(name) for name in conditions}
    return {OWN: own_version(), **{name: found for name, found in code.items() if found}}


def differences(before: StudyConfig, now: StudyConfig) -> list[str]:
    """Return what differs between two studies, in words.

    Args:
        before: Configuration of recorded episodes.
        now: Configuration of today.
    """
    found: list[str] = []
    for field in dataclasses.fields(StudyConfig):
        old, new = getattr(before, field.name), getattr(now, field.name)
        if old == new:
            continue
        if field.name == "code":
            found += changed_code(old, new)
        elif field.name == "weights":
            found.append(f"the weights or code of the recovery model {now.monitor}")
        elif field.name == "policy_weights":
            changed = [policy for policy in now.policies if old.get(policy) != new.get(policy)]
            found += [f"the weights or code of the policy {policy}" for policy in changed]
        else:
            found.append(_NAMES.get(field.name, field.name))
    return list(dict.fromkeys(found))
