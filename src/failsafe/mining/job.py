"""Mine episodes in one process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from failsafe.datasets.mined import MiningConfig
from failsafe.datasets.store import Dataset
from failsafe.execution.contract import SILENT, Reporter
from failsafe.experts.own_step import TaskLoader
from failsafe.experts.tasks import Task
from failsafe.generation.cases import CaseResult
from failsafe.generation.nominal import make_crashed_nominal, make_nominal, run_nominal
from failsafe.mining.episode import mine_episode, mined_case_id
from failsafe.mining.rollout import PolicyDriver
from failsafe.policies.contract import Policy
from failsafe.policies.loading import load_policy
from failsafe.records.case import FailureCase, Outcome, PolicySource, Times

Item = tuple[str, int]
"""Task and seed of an episode."""


@dataclass(frozen=True)
class Mined:
    """What is reported after every episode.

    Attributes:
        task: Name of the task.
        seed: Seed of the initial state.
        category: The category of the case, or "nominal_failed" where the expert does not solve the state.
    """

    task: str
    seed: int
    category: str


class MiningJob:
    """Mines episodes in one process, and keeps the simulators and the policy that it has loaded.

    Args:
        config: What is mined.
        dataset: Where to store it.
        policy: The policy, where it was given as an object; otherwise it is loaded by its name.
        tasks: Tasks that were given as objects, by name; the others are loaded by name.
    """

    def __init__(
        self,
        config: MiningConfig,
        dataset: Dataset,
        policy: Policy | None = None,
        tasks: Mapping[str, Task] | None = None,
    ) -> None:
        self._config, self._dataset, self._policy = config, dataset, policy
        self.folders = (dataset.path,)
        given = {name: replace(task, name=name) for name, task in (tasks or {}).items()}
        self._tasks = TaskLoader(given)
        self._deterministic: dict[str, bool] = {}
        self._crashed: set[Item] = set()

    def run(self, item: Item, reporter: Reporter = SILENT) -> None:
        """Mine one episode. See `Job.run`."""
        name, seed = item
        case_id = mined_case_id(self._config, name, seed)
        if self._dataset.has_case(name, case_id):
            reporter.report(Mined(name, seed, self._dataset.case(name, case_id).category))
            return
        reporter.begin(case_id)
        if item in self._crashed:
            self._write_crashed(item, reporter)
            return
        task = self._task(name)
        if self._dataset.has_nominal(name, seed):
            task.simulator.reset(seed)
            nominal = make_nominal(task, *self._dataset.nominal(name, seed))
        else:
            nominal = run_nominal(task, seed)
            self._dataset.write_nominal(nominal.record, nominal.trace)
        if not nominal.record.success:
            reporter.report(Mined(name, seed, "nominal_failed"))
            return
        if self._policy is None:
            self._policy = load_policy(self._config.policy)
        driver = PolicyDriver(task, self._policy)
        if name not in self._deterministic:
            self._deterministic[name] = driver.is_deterministic(self._config.first_seed)
        result = mine_episode(task, nominal, driver, self._config, self._deterministic[name])
        self._dataset.write_case(result.case, result.traces)
        reporter.report(Mined(name, seed, result.case.category))

    def give_up(self, item: Item, part: str = "") -> bool:
        """Record an episode as crashed. See `Job.give_up`."""
        self._crashed.add(item)
        return True

    def _task(self, name: str) -> Task:
        return self._tasks.load(name, self._config.first_seed)

    def _write_crashed(self, item: Item, reporter: Reporter) -> None:
        name, seed = item
        if not self._dataset.has_nominal(name, seed):
            task = self._task(name)
            nominal = make_crashed_nominal(task, seed)
            self._dataset.write_nominal(nominal.record, nominal.trace)
        case = FailureCase(
            case_id=mined_case_id(self._config, name, seed),
            task=name,
            seed=seed,
            instruction="",
            perturbations=(),
            outcome=Outcome.CRASHED,
            reason="the process died twice during this episode",
            times=Times(),
            labels=(),
            policy=PolicySource(self._config.policy, self._config.weights),
        )
        result = CaseResult(case, {})
        self._dataset.write_case(result.case, result.traces)
        reporter.report(Mined(name, seed, case.category))
