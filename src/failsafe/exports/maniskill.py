"""Export to ManiSkill's trajectory format, which `mani_skill.trajectory.replay_trajectory` reads.

```
out/
  TASK/trajectory.h5    a group traj_I for each rollout: actions [T, A], terminated, truncated, success [T]
  TASK/trajectory.json  env_info, and for each rollout its seed, its outcome and, under "failsafe", its label
```
The actions are those of the control mode `pd_joint_pos`. `success` is known for the last step only; it is
False in every earlier step.

A disturbance of the world is not part of an action. Rollouts with disturbances are left out and counted.
Tasks that FailSafe adds to ManiSkill, such as "PickTallCube-v1", are registered by importing
`failsafe.simulators.maniskill.variants`; do so before a replay.
"""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from failsafe.datasets.store import Dataset
from failsafe.errors import UserError
from failsafe.exports.contract import EXPORTERS
from failsafe.records import codec
from failsafe.records.case import FAILING, NOMINAL, Outcome
from failsafe.records.names import folder_name
from failsafe.records.trace import Trace
from failsafe.simulators.suites import SIMULATORS

RECOVERED = "recovered"
"""Label of a rollout with a proven correction. The others are `NOMINAL` and `FAILING`."""
_CONTROL_MODE = "pd_joint_pos"
_ENV_KWARGS = {
    "obs_mode": "none",
    "control_mode": _CONTROL_MODE,
    "sim_backend": "physx_cpu",
    "num_envs": 1,
}


@dataclass(frozen=True)
class _Rollout:
    """A rollout to export.

    Attributes:
        seed: Seed of its initial state.
        label: The entry "failsafe" of its episode; "rollout" is `NOMINAL`, `FAILING` or `RECOVERED`.
        trace: The rollout.
    """

    seed: int
    label: dict[str, Any]
    trace: Trace


@EXPORTERS.register("maniskill")
def export_maniskill(dataset: Dataset, out: Path) -> Mapping[str, int]:
    """Write the nominal, failing and recovered rollouts of ManiSkill's tasks.

    Args:
        dataset: The dataset.
        out: Folder to write; it gets one folder for each task.

    Returns:
        Number of rollouts of each label, and of those left out.

    Raises:
        UserError: If ManiSkill is not installed, or the dataset has no task of ManiSkill.
        RecordError: If a file of the dataset is damaged.
    """
    suite = SIMULATORS["maniskill"]
    if suite.requirement:
        raise UserError(f"expected ManiSkill for its trajectory format: run `{suite.requirement}`")
    tasks = sorted({nominal.task for nominal in dataset.nominals()})
    supported = [task for task in tasks if suite.has(task)]
    if not supported:
        raise UserError(
            f"expected a dataset with tasks of ManiSkill, got the tasks {', '.join(tasks) or 'none'}; "
            "choose another format"
        )
    counts: Counter[str] = Counter()
    for task in supported:
        suite.check(task)
        _write_task(dataset, task, out / folder_name(task), counts)
    if others := len(tasks) - len(supported):
        counts["tasks of other simulators left out"] = others
    return dict(counts)


def _write_task(dataset: Dataset, task: str, folder: Path, counts: Counter[str]) -> None:
    import h5py

    folder.mkdir(parents=True)
    episodes: list[dict[str, Any]] = []
    env: Any = importlib.import_module("failsafe.simulators.maniskill.tasks").make_env(task)
    try:
        with h5py.File(folder / "trajectory.h5", "w") as file:
            for rollout in _rollouts(dataset, task, counts):
                kind = rollout.label["rollout"]
                if rollout.trace.disturbances:
                    counts[f"{kind} rollouts with disturbances left out"] += 1
                    continue
                steps, success = len(rollout.trace), kind != FAILING
                at_end = np.arange(steps) == steps - 1
                group = file.create_group(f"traj_{len(episodes)}")
                group["actions"] = _actions(env, rollout.trace)
                group["success"] = at_end & success
                group["terminated"] = at_end & success
                group["truncated"] = at_end & (not success)
                episodes.append(
                    {
                        "episode_id": len(episodes),
                        "episode_seed": rollout.seed,
                        "control_mode": _CONTROL_MODE,
                        "elapsed_steps": steps,
                        "reset_kwargs": {"seed": rollout.seed},
                        "success": success,
                        "fail": not success,
                        "failsafe": rollout.label,
                    }
                )
                counts[f"{kind} rollouts"] += 1
    finally:
        env.close()
    limit = importlib.import_module("gymnasium").spec(task).max_episode_steps
    info = {"env_id": task, "env_kwargs": _ENV_KWARGS, "max_episode_steps": limit}
    plain = {
        "env_info": info,
        "episodes": episodes,
        "source_type": "failsafe",
        "source_desc": "Nominal, failing and recovered rollouts, made by FailSafe in simulation.",
    }
    (folder / "trajectory.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


def _rollouts(dataset: Dataset, task: str, counts: Counter[str]) -> Iterator[_Rollout]:
    """Yield the nominal rollouts of a task, then the failing one and the recovered ones of each failure."""
    for nominal in dataset.nominals():
        if nominal.task != task:
            continue
        if nominal.success:
            yield _Rollout(nominal.seed, {"rollout": NOMINAL}, dataset.nominal(task, nominal.seed)[1])
        else:
            counts["unsuccessful nominal rollouts left out"] += 1
    for case in dataset.cases():
        if case.task != task:
            continue
        if case.outcome is not Outcome.FAILURE:
            counts["perturbed rollouts without a failure left out"] += 1
            continue
        traces = dataset.traces(task, case.case_id)
        about = {
            "case": case.case_id,
            "modes": [p.mode for p in case.perturbations],
            "instruction": case.instruction,
            "times": codec.to_plain(case.times),
        }
        if FAILING in traces:
            yield _Rollout(case.seed, {"rollout": FAILING, **about}, traces[FAILING])
        for label in case.labels:
            if label.correction and label.recovery and label.verification.proven:
                correction = {
                    "correction_step": label.step,
                    "correction_length": len(label.correction.actions),
                }
                kind = {"rollout": RECOVERED, **about, **correction}
                yield _Rollout(case.seed, kind, traces[label.recovery])


def _actions(env: Any, trace: Trace) -> Float32[np.ndarray, "T A"]:
    """Convert joint targets to actions: those of the gripper scaled to [-1, 1], all others in radians."""
    controllers: dict[str, Any] = getattr(env.agent.controller, "controllers", {"arm": env.agent.controller})
    names = [joint.name for joint in env.agent.robot._objs[0].active_joints]
    columns: list[np.ndarray] = []
    for name, controller in controllers.items():
        if name == "gripper":
            width = controller.single_action_space.shape[0]
            columns += [np.clip(trace.gripper_commands, -1, 1)] * width
        else:
            rows = [names.index(joint._objs[0].name) for joint in controller.joints]
            columns += list(trace.commands[:, rows].T)
    return np.stack(columns, axis=1).astype(np.float32)
