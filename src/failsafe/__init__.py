"""FailSafe: make robot policies recover from their own failures.

```python
import failsafe as fs

data = fs.generate("PickCube-v1", failures=100, out="data/")  # a Dataset; run again to resume
fs.export(data, "maniskill", out="trajectories/")  # for ManiSkill's replay_trajectory
model = fs.load_model("compact")  # or a folder, "openai+http://127.0.0.1:8000/v1?model=...", an object
policy = fs.guard(my_policy, model, calibration="thresholds.json")  # a policy like any other
results = fs.evaluate(my_policy, model, tasks=["PickCube-v1"], seeds=range(5000, 5100), out="results/")
mined = fs.mine(my_policy, tasks="PickCube-v1", out="mined/")  # its own failures, with corrections
env = fs.make_env("PickCube-v1", perturbations=["slip"])  # a gymnasium.Env
env = fs.perturb(gym_env, ["early_release"])  # wraps a ManiSkill environment
```

Every name below is imported when it is first used, so that `import failsafe` needs no dependency and no
time. The subpackages are the stages of the data flow: `records`, `simulators`, `rollouts`, `experts`,
`perturbations`, `execution`, `generation`, `datasets`, `samples`, `models`, `policies`, `training`,
`monitors`, `evaluation`, `mining`, `exports`, `envs`, `reports`, `cli`. A stage imports earlier stages only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from failsafe.datasets.generate import generate
    from failsafe.datasets.store import Dataset, open_dataset
    from failsafe.envs.environment import FailSafeEnv, make_env
    from failsafe.envs.wrapper import perturb
    from failsafe.errors import FailSafeError, UserError
    from failsafe.evaluation.calibrate import calibrate
    from failsafe.evaluation.evaluate import evaluate
    from failsafe.evaluation.results import Results
    from failsafe.experts.tasks import Task, load_task
    from failsafe.exports.export import export
    from failsafe.generation.task_check import TaskCheck, check_task
    from failsafe.mining.mine import mine
    from failsafe.models.contract import RecoveryModel
    from failsafe.models.loading import load_model
    from failsafe.monitors.calibration import Calibration
    from failsafe.monitors.guard import guard
    from failsafe.monitors.settings import MonitorSettings
    from failsafe.policies.contract import ActionSpace, Policy
    from failsafe.policies.loading import load_policy
    from failsafe.records.assessment import Assessment, Window, WindowSpec
    from failsafe.records.observation import PolicyObservation

__version__ = "0.1.0"

__all__ = [
    "ActionSpace",
    "Assessment",
    "Calibration",
    "Dataset",
    "FailSafeEnv",
    "FailSafeError",
    "MonitorSettings",
    "Policy",
    "PolicyObservation",
    "RecoveryModel",
    "Results",
    "Task",
    "TaskCheck",
    "UserError",
    "Window",
    "WindowSpec",
    "calibrate",
    "check_task",
    "evaluate",
    "export",
    "generate",
    "guard",
    "load_model",
    "load_policy",
    "load_task",
    "make_env",
    "mine",
    "open_dataset",
    "perturb",
]

_MODULES = {
    "ActionSpace": "failsafe.policies.contract",
    "Assessment": "failsafe.records.assessment",
    "Calibration": "failsafe.monitors.calibration",
    "Dataset": "failsafe.datasets.store",
    "FailSafeEnv": "failsafe.envs.environment",
    "FailSafeError": "failsafe.errors",
    "MonitorSettings": "failsafe.monitors.settings",
    "Policy": "failsafe.policies.contract",
    "PolicyObservation": "failsafe.records.observation",
    "RecoveryModel": "failsafe.models.contract",
    "Results": "failsafe.evaluation.results",
    "Task": "failsafe.experts.tasks",
    "TaskCheck": "failsafe.generation.task_check",
    "UserError": "failsafe.errors",
    "Window": "failsafe.records.assessment",
    "WindowSpec": "failsafe.records.assessment",
    "calibrate": "failsafe.evaluation.calibrate",
    "check_task": "failsafe.generation.task_check",
    "evaluate": "failsafe.evaluation.evaluate",
    "export": "failsafe.exports.export",
    "generate": "failsafe.datasets.generate",
    "guard": "failsafe.monitors.guard",
    "load_model": "failsafe.models.loading",
    "load_policy": "failsafe.policies.loading",
    "load_task": "failsafe.experts.tasks",
    "make_env": "failsafe.envs.environment",
    "mine": "failsafe.mining.mine",
    "open_dataset": "failsafe.datasets.store",
    "perturb": "failsafe.envs.wrapper",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'failsafe' has no attribute '{name}'")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
