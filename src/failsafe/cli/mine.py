"""`failsafe mine`: how a policy fails, and what corrects it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from failsafe.cli.execution import DEFAULT, ExecutionOptions
from failsafe.cli.output import ProgressReporter, print_json
from failsafe.cli.parsing import parse_names
from failsafe.mining.job import Mined
from failsafe.mining.mine import mine as run_mining
from failsafe.reports.mining import mining_figures, mining_text, note_on_chance, write_mining_page


def mine(
    policy: str,
    out: Path,
    tasks: str = "PickCube-v1,PushCube-v1,StackCube-v1",
    episodes: int = 100,
    first_seed: int = 0,
    perturb: str = "",
    max_steps: int = 200,
    labels: int = 2,
    verify_rollouts: int = 1,
    samples: int = 4,
    execution: ExecutionOptions = DEFAULT,
    json: bool = False,
) -> int:
    """Find out how a policy fails, and prove what corrects it.

    Interrupted at any time, the same command resumes.

    Args:
        policy: The policy: reference:weak, openvla://HOST:PORT, openvla-oft://..., openpi://...,
            MODULE:CLASS. A server of a policy for LIBERO: openpi://HOST:PORT?preset=libero.
        out: Folder of the mined dataset; `failsafe samples` takes it together with generated ones.
        tasks: Names of tasks, or MODULE:FUNCTION that returns a failsafe.Task, separated by commas.
        episodes: Episodes of each task.
        first_seed: Seed of the first initial state; the others follow.
        perturb: Run-time perturbations, MODE or MODE:MAGNITUDE separated by commas; episodes take them in
            turn.
        max_steps: Control steps after which an episode is over.
        labels: Steps of each failed episode to find corrections for.
        verify_rollouts: Rollouts with each correction: one exact, the others with noise and delay.
        samples: Rollouts of each branch without a correction, where the policy is not deterministic.
        execution: Where it runs.
        json: Print the result as JSON.
    """
    run_on, names = execution.load(), parse_names(tasks)
    categories: Counter[str] = Counter()
    with ProgressReporter("episodes", episodes * len(names), quiet=json) as reporter:

        def show(mined: Mined) -> None:
            categories[mined.category] += 1
            reporter.advance(1, ", ".join(f"{n} {name}" for name, n in sorted(categories.items())))

        dataset = run_mining(
            policy,
            tasks=names,
            out=out,
            episodes=episodes,
            first_seed=first_seed,
            perturbations=parse_names(perturb),
            max_steps=max_steps,
            labels=labels,
            verify_rollouts=verify_rollouts,
            samples=samples,
            executor=run_on,
            on_progress=show,
        )
    page = write_mining_page(dataset)
    if json:
        print_json(
            {
                "dataset": str(out),
                "page": str(page),
                "deterministic": not note_on_chance(dataset),
                **mining_figures(dataset),
            }
        )
        return 0
    print(mining_text(dataset))
    print(f"page: {page.resolve()}")
    return 0
