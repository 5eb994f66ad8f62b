"""Mine the failures of a policy: `failsafe.mine`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from failsafe.datasets.files import remove_partials
from failsafe.datasets.locks import locked
from failsafe.datasets.mined import MinedManifest, MiningConfig, read_mined_manifest, write_mined_manifest
from failsafe.datasets.store import Dataset
from failsafe.errors import RecordError, StoreError, UserError
from failsafe.evaluation.code import study_code
from failsafe.evaluation.objects import StudyObjects
from failsafe.execution.contract import Executor, ignore
from failsafe.execution.loading import choose_executor
from failsafe.experts.tasks import Task
from failsafe.imports import trust
from failsafe.mining.job import Mined, MiningJob
from failsafe.models.loading import COMPACT
from failsafe.policies.contract import Policy
from failsafe.records.provenance import collect_provenance
from failsafe.sources import OWN, changed_code


def mine(
    policy: str | Policy,
    *,
    tasks: str | Task | Sequence[str | Task],
    out: str | Path,
    episodes: int = 100,
    first_seed: int = 0,
    perturbations: Sequence[str] = (),
    max_steps: int = 200,
    labels: int = 2,
    verify_rollouts: int = 1,
    samples: int = 4,
    workers: int | None = None,
    executor: str | Executor | None = None,
    on_progress: Callable[[Mined], None] = ignore,
) -> Dataset:
    """Run a policy, find out where its episodes fail, prove what corrects them, and store all of it.

    Each correction is proven twice: with the policy going on after it, and with the expert going on. The
    folder is a dataset: `failsafe samples` takes it together with generated ones. Interrupted at any moment,
    the same call resumes. The dataset does not depend on the number of workers.

    Args:
        policy: A name as for `load_policy`, or an object.
        tasks: One task or several, by name or as objects.
        out: Folder of the dataset.
        episodes: Episodes of each task.
        first_seed: Seed of the first initial state of each task; the others follow.
        perturbations: Run-time perturbations, each "MODE" or "MODE:MAGNITUDE". Episodes take them in turn.
            Default: the policy acts undisturbed.
        max_steps: Control steps after which an episode is over.
        labels: Steps of each failed episode to find corrections for.
        verify_rollouts: Rollouts with each correction: one exact, the others with noise and delay.
        samples: Rollouts of each branch without a correction, where the policy is not deterministic.
        workers: Number of workers. Default: one per core.
        executor: Where the work runs: "processes", "serial", "ray", "MODULE:ATTRIBUTE", or an object.
            Default: "processes"; "serial" for objects, unless there are several workers.
        on_progress: Called in this process after every episode.

    Returns:
        The dataset, complete.

    Raises:
        UserError: If a name is unknown, a number is out of range, `out` holds something else, or an object
            cannot be pickled for another process.
        StoreError: If the folder cannot be written.
    """
    given_tasks = [tasks] if isinstance(tasks, str | Task) else list(tasks)
    objects = StudyObjects.of([policy], COMPACT, given_tasks)
    trust(*objects.task_names)  # by name in a script: the user's own
    name = objects.policy_names[0]
    config = MiningConfig(
        policy=name,
        weights=objects.policy_fingerprints[name],
        tasks=objects.task_names,
        episodes=episodes,
        first_seed=first_seed,
        perturbations=tuple(perturbations),
        max_steps=max_steps,
        labels=labels,
        verify_rollouts=verify_rollouts,
        samples=samples,
    )
    code = study_code(given_tasks, config.perturbations, ())
    code.pop(OWN)  # a mined folder is continued by another version
    given = objects.policies.get(name)
    run_on = choose_executor(executor, workers, (given, objects.tasks) if objects.any else None)
    dataset = Dataset(Path(out))
    dataset.check_files()
    with locked(dataset.path):
        remove_partials(dataset.path)
        manifest = _begin(dataset, MinedManifest(config, collect_provenance(), code=code))
        if not manifest.complete:
            run_on.run(MiningJob(config, dataset, given, objects.tasks), config.items, on_message=on_progress)
            write_mined_manifest(dataset.path, replace(manifest, complete=True))
    return dataset


def _begin(dataset: Dataset, wanted: MinedManifest) -> MinedManifest:
    """Return the manifest of a folder that is continued, or write the one that is wanted."""
    if not (dataset.path / "manifest.json").exists():
        write_mined_manifest(dataset.path, wanted)
        return wanted
    try:
        present = read_mined_manifest(dataset.path)
    except RecordError as error:
        raise StoreError(
            f"expected an empty folder or one made by `failsafe mine`, got {dataset.path} with a manifest of "
            "something else: choose another folder"
        ) from error
    before, now = present.config, wanted.config
    settings = [name for name in before.__dataclass_fields__ if getattr(before, name) != getattr(now, name)]
    if others := [name for name in settings if name != "weights"]:
        raise UserError(
            f"{dataset.path} holds failures mined with other settings ({', '.join(others)}): continue it "
            f"with `{present.command}`, or choose another folder"
        )
    changed = [f"the weights or code of the policy {now.policy}"] if settings else []
    if changed := [*changed, *changed_code(present.code, wanted.code)]:
        raise UserError(
            f"{dataset.path} holds failures mined with other code ({', '.join(changed)}): choose another "
            "folder, or delete this one"
        )
    return present
