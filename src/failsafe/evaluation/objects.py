"""Objects in place of names: policies, tasks and models that a caller hands to an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from failsafe.errors import UserError
from failsafe.experts.tasks import Task, task_name
from failsafe.models.contract import RecoveryModel
from failsafe.models.loading import fingerprint
from failsafe.policies.contract import Policy
from failsafe.policies.loading import policy_fingerprint


@dataclass(frozen=True)
class StudyObjects:
    """What an evaluation was given as names, and what as objects.

    Attributes:
        policy_names: Name of every policy, in order.
        task_names: Name of every task, in order.
        policies: Policies that were given as objects, by name.
        tasks: Tasks that were given as objects, by name.
        model: The model, None where a name was given.
        model_fingerprint: Identifies the model's weights or code; empty where nothing is known.
        policy_fingerprints: The same of each policy, by name.
    """

    policy_names: tuple[str, ...] = ()
    task_names: tuple[str, ...] = ()
    policies: dict[str, Policy] = field(default_factory=dict[str, Policy])
    tasks: dict[str, Task] = field(default_factory=dict[str, Task])
    model: RecoveryModel | None = None
    model_fingerprint: str = ""
    policy_fingerprints: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(
        cls, policies: Sequence[str | Policy], model: str | RecoveryModel, tasks: Sequence[str | Task]
    ) -> StudyObjects:
        """Sort names from objects.

        Args:
            policies: The base policies.
            model: The recovery model.
            tasks: The tasks.

        Raises:
            UserError: If two have the same name.
        """
        for what, given in (("policies", policies), ("tasks", tasks)):
            names = [name_of(one) for one in given]
            if twice := [name for i, name in enumerate(names) if name in names[:i]]:
                raise UserError(f"expected {what} with different names, got '{twice[0]}' twice")
        return cls(
            policy_names=tuple(name_of(policy) for policy in policies),
            task_names=tuple(name_of(task) for task in tasks),
            policies={name_of(policy): policy for policy in policies if not isinstance(policy, str)},
            tasks={name_of(task): task for task in tasks if isinstance(task, Task)},
            model=None if isinstance(model, str) else model,
            model_fingerprint=fingerprint(model),
            policy_fingerprints={name_of(policy): policy_fingerprint(policy) for policy in policies},
        )

    @property
    def any(self) -> bool:
        """Whether there is an object."""
        return bool(self.policies or self.tasks or self.model is not None)


def name_of(given: str | Policy | RecoveryModel | Task) -> str:
    """Return the name of a policy, a model or a task, which may be a name already."""
    return task_name(given) if isinstance(given, str | Task) else given.name
