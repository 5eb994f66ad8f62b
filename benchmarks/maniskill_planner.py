"""Measure what ManiSkill's own motion planning solutions reach, as a baseline.

Runs `mani_skill.examples.motionplanning.panda.run.MP_SOLUTIONS` (mplib) without a renderer and judges success
once, at the end: after the solution returned and the robot held its last action for a few more steps. Every
(task, seed) appends one JSON line to the output file; pairs that are already there are skipped, so an
interrupted run goes on where it stopped. Each task runs in a process of its own: a crash costs one seed.

It needs mplib and numpy below 2, so an environment of its own (`setup_mplib_env.sh`), and no FailSafe:

    .venv-mplib/bin/python benchmarks/maniskill_planner.py --seeds 50
    .venv-mplib/bin/python benchmarks/maniskill_planner.py --time PickCube-v1 20

Outcomes: `success` and `failure` (the solution ended; judged at the end), `no_plan` (it returned -1, counted
as no success whatever the scene's state is), `raised`, `crash`, `timeout`, and `unavailable` (the environment
cannot be made here: assets to download, a missing package).

Everything runs on one core: the planner's small matrices gain nothing from BLAS threads, which only spin.
"""

import argparse
import json
import multiprocessing as mp
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # read when numpy is first imported
    os.environ.setdefault(variable, "1")

Record = dict[str, Any]
"""One episode, as a line of a results file."""
Records = dict[tuple[str, int | None], Record]
"""Records by task and seed; the seed is None for a task that could not be run."""

RESULTS = Path(__file__).parent / "results" / "maniskill_planner.jsonl"
MAX_EPISODE_STEPS = 100_000  # the solutions outrun the registered limits
START_TIMEOUT = 180.0
ENDED = ("success", "failure", "no_plan")


def make_env(task: str) -> Any:
    """Make the environment of a task, wrapped so that steps, last action and successes are seen.

    Args:
        task: The registered name, such as "PickCube-v1".

    Returns:
        The wrapped environment.

    Raises:
        FileNotFoundError: If the task needs assets that have not been downloaded.
    """
    import gymnasium as gym
    import mani_skill.envs  # noqa: F401  # pyright: ignore[reportUnusedImport] registers the tasks
    import torch
    from mani_skill.utils import assets
    from mani_skill.utils.registration import REGISTERED_ENVS

    class Watch(gym.Wrapper):
        """Remembers of an episode what the solutions do not return."""

        def reset(self, **kwargs: Any) -> Any:
            self.steps, self.last_action, self.last_success, self.any_success = 0, None, False, False
            return self.env.reset(**kwargs)

        def step(self, action: Any) -> Any:
            result = self.env.step(action)
            self.steps += 1
            self.last_action = action
            self.last_success = bool(result[-1]["success"].item())
            self.any_success |= self.last_success
            return result

    torch.set_num_threads(1)
    missing = []
    for asset in REGISTERED_ENVS[task].asset_download_ids or []:
        group = asset in assets.DATA_GROUPS
        sources = assets.expand_data_group_into_individual_data_source_ids(asset) if group else [asset]
        missing += [source for source in sources if not assets.is_data_source_downloaded(source)]
    if missing:
        raise FileNotFoundError(f"assets to download: {', '.join(missing)}")
    return Watch(
        gym.make(
            task,
            obs_mode="none",
            control_mode="pd_joint_pos",
            render_backend="none",
            max_episode_steps=MAX_EPISODE_STEPS,
        )
    )


def count_failed_plans() -> list[int]:
    """Count the motions that found no plan; most solutions ignore them and go on.

    Returns:
        A one-element list, the running count.
    """
    from mani_skill.examples.motionplanning.base_motionplanner.motionplanner import BaseMotionPlanningSolver

    failed = [0]

    def counted(move: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(self: Any, pose: Any, dry_run: bool = False, refine_steps: int = 0) -> Any:
            result = move(self, pose, dry_run=dry_run, refine_steps=refine_steps)
            if isinstance(result, int) and result == -1 and not dry_run:
                failed[0] += 1
            return result

        return wrapper

    for name in ("move_to_pose_with_screw", "move_to_pose_with_RRTConnect", "move_to_pose_with_RRTStar"):
        setattr(BaseMotionPlanningSolver, name, counted(getattr(BaseMotionPlanningSolver, name)))
    return failed


def run_episode(
    env: Any, solve: Callable[..., Any], task: str, seed: int, settle_steps: int, failed_plans: list[int]
) -> Record:
    """Run one solution and judge it at the end.

    Args:
        env: The environment of `make_env`.
        solve: ManiSkill's solution of the task.
        task: The task's name.
        seed: The seed of the reset, which the solution does itself.
        settle_steps: Steps to hold the last action before success is judged.
        failed_plans: The count of `count_failed_plans`.

    Returns:
        The record to be written. `seconds` and `cpu_seconds` cover the solution with its reset, not the
        settling.
    """
    failed_plans[0] = 0
    record: Record = {"task": task, "seed": seed, "outcome": "raised", "error": None}
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        result = solve(env, seed=seed, debug=False, vis=False)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        planned = not (result is None or (isinstance(result, int) and result == -1))
        record.update(
            steps=env.steps,
            failed_plans=failed_plans[0],
            success_last_step=env.last_success,  # what ManiSkill's own runner counts
            success_any_step=env.any_success,  # latched, for comparison
            seconds=round(wall, 4),
            cpu_seconds=round(cpu, 4),
        )
        for _ in range(settle_steps if env.last_action is not None else 0):
            env.step(env.last_action)
        record["success_at_end"] = bool(env.unwrapped.evaluate()["success"].item())
        record["outcome"] = ("success" if record["success_at_end"] else "failure") if planned else "no_plan"
    except Exception as error:
        record["error"] = f"{type(error).__name__}: {error}"
    return record


def send_output_to_stderr() -> None:
    """Send what the planner prints, from Python and from C++, to standard error."""
    sys.stdout.flush()
    os.dup2(2, 1)


def run_seeds(task: str, seeds: Sequence[int], settle_steps: int, pipe: Connection) -> None:
    """Run the episodes of one task; the body of a worker process.

    Args:
        task: The task's name.
        seeds: The seeds to run, in order.
        settle_steps: See `run_episode`.
        pipe: Where to send "ready" (or "unavailable: ..."), then one record per seed.
    """
    send_output_to_stderr()
    try:
        env = make_env(task)
        from mani_skill.examples.motionplanning.panda.run import MP_SOLUTIONS
    except Exception as error:
        pipe.send(f"unavailable: {type(error).__name__}: {error}")
        return
    failed_plans = count_failed_plans()
    pipe.send("ready")
    for seed in seeds:
        pipe.send(run_episode(env, MP_SOLUTIONS[task], task, seed, settle_steps, failed_plans))


def run_task(task: str, seeds: Iterable[int], settle_steps: int, timeout: float) -> Generator[Record]:
    """Run the seeds of one task in a process, which is started anew after a crash or a timeout.

    Args:
        task: The task's name.
        seeds: The seeds to run.
        settle_steps: See `run_episode`.
        timeout: Seconds that one episode may take.

    Yields:
        One record per seed, or a single one with seed None where the task is unavailable.
    """
    context = mp.get_context("spawn")
    seeds = list(seeds)
    while seeds:
        ours, theirs = context.Pipe()
        process = context.Process(target=run_seeds, args=(task, seeds, settle_steps, theirs))
        process.start()
        theirs.close()
        ready = False
        try:
            while seeds:
                if not ours.poll(timeout if ready else START_TIMEOUT):
                    raise TimeoutError
                message = ours.recv()
                if isinstance(message, dict):
                    seeds.pop(0)
                    yield message
                elif message == "ready":
                    ready = True
                else:
                    yield {"task": task, "seed": None, "outcome": "unavailable", "error": message}
                    return
        except (EOFError, TimeoutError) as error:
            outcome = "timeout" if isinstance(error, TimeoutError) else "crash"
            process.kill()
            process.join()
            text = f"{outcome}, exit code {process.exitcode}"
            if not ready:
                yield {"task": task, "seed": None, "outcome": "unavailable", "error": f"{text} on start"}
                return
            yield {"task": task, "seed": seeds.pop(0), "outcome": outcome, "error": text}
        finally:
            if not seeds:
                process.join(timeout=10)
            process.kill()
            process.join()
            ours.close()


def read_records(path: Path) -> Records:
    """Read a results file.

    Args:
        path: The JSON lines file; it need not exist.

    Returns:
        The records by (task, seed), the last one where there are several.
    """
    records: Records = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            records[record["task"], record["seed"]] = record
    return records


def markdown_table(records: Records) -> str:
    """Lay out results as a Markdown table.

    Args:
        records: The records of `read_records`.

    Returns:
        The text of the table, one row per task.
    """
    head = (
        "task",
        "seeds",
        "success at the end",
        "... at the last step",
        "... at any step",
        "ended without success",
        "of these, with a motion not planned",
        "planner: returned -1",
        "planner: raised",
        "crashes",
        "timeouts",
        "median s/episode",
        "median CPU s/episode",
        "median steps",
    )
    rows = [head, ("---",) + ("---:",) * (len(head) - 1)]
    notes: list[str] = []
    tasks = sorted({task for task, _ in records})
    for task in tasks:
        runs = [record for (name, seed), record in records.items() if name == task and seed is not None]
        if not runs:
            notes.append(f"- {task} could not be run: {records[task, None]['error']}")
            rows.append((task, "0") + ("",) * (len(head) - 2))
            continue
        count = Counter(run["outcome"] for run in runs)
        ended = [run for run in runs if run["outcome"] in ENDED]
        planned = [run for run in ended if run["outcome"] != "no_plan"]
        lost = sum(run["outcome"] == "failure" and run["failed_plans"] > 0 for run in ended)

        def median(key: str, digits: int, ended: Sequence[Record] = ended) -> str:
            return f"{statistics.median(run[key] for run in ended):.{digits}f}" if ended else ""

        rows.append(
            (
                task,
                str(len(runs)),
                f"{count['success']} ({100 * count['success'] / len(runs):.0f} %)",
                str(sum(run["success_last_step"] for run in planned)),
                str(sum(run["success_any_step"] for run in planned)),
                str(count["failure"]),
                str(lost),
                str(count["no_plan"]),
                str(count["raised"]),
                str(count["crash"]),
                str(count["timeout"]),
                median("seconds", 2),
                median("cpu_seconds", 2),
                median("steps", 0),
            )
        )
        errors = Counter(run["error"] for run in runs if run["error"])
        notes += [f"- {task}: {number} x {error}" for error, number in errors.most_common(3)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return table + ("\n\n" + "\n".join(notes) if notes else "")


def time_task(task: str, number: int, settle_steps: int) -> Record:
    """Measure the rollouts per second of the planner with its simulation.

    Args:
        task: The task's name.
        number: How many seeds to run, from 0 on; one more is run before as a warm-up.
        settle_steps: See `run_episode`; not part of the time.

    Returns:
        The measurement, to be printed as JSON.
    """
    env = make_env(task)
    from mani_skill.examples.motionplanning.panda.run import MP_SOLUTIONS

    failed_plans = count_failed_plans()
    run_episode(env, MP_SOLUTIONS[task], task, number, settle_steps, failed_plans)
    runs = [
        run_episode(env, MP_SOLUTIONS[task], task, seed, settle_steps, failed_plans) for seed in range(number)
    ]
    ended = [run for run in runs if run["outcome"] in ENDED]
    seconds = sum(run["seconds"] for run in ended)
    return {
        "task": task,
        "rollouts": len(ended),
        "raised": len(runs) - len(ended),
        "successes": sum(run["outcome"] == "success" for run in ended),
        "steps": sum(run["steps"] for run in ended),
        "seconds": round(seconds, 3),
        "cpu_seconds": round(sum(run["cpu_seconds"] for run in ended), 3),
        "rollouts_per_s": round(len(ended) / seconds, 3) if ended else None,
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("tasks", nargs="*", metavar="TASK", help="tasks to run (default: all that have a solution)")
    add("--seeds", type=int, default=50, help="number of seeds (default 50)")
    add("--first-seed", type=int, default=0)
    add("--settle-steps", type=int, default=10, help="steps held before judging (default 10)")
    add("--timeout", type=float, default=120.0, help="seconds an episode may take (default 120)")
    add("--out", type=Path, default=RESULTS, help="JSON lines file; the table goes beside it")
    add("--time", nargs=2, metavar=("TASK", "N"), help="print the rollouts/s over N seeds and stop")
    args = parser.parse_args()

    if args.time:
        stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
        send_output_to_stderr()
        measured = time_task(args.time[0], int(args.time[1]), args.settle_steps)
        print(json.dumps(measured), file=stdout, flush=True)
        return

    from mani_skill.examples.motionplanning.panda.run import MP_SOLUTIONS

    unknown = set(args.tasks) - set(MP_SOLUTIONS)
    if unknown:
        parser.error(f"no solution for {sorted(unknown)}; there are {sorted(MP_SOLUTIONS)}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("a", encoding="utf-8") as file:
        for task in args.tasks or MP_SOLUTIONS:
            done = read_records(args.out)
            seeds = range(args.first_seed, args.first_seed + args.seeds)
            for record in run_task(
                task, [seed for seed in seeds if (task, seed) not in done], args.settle_steps, args.timeout
            ):
                file.write(json.dumps(record) + "\n")
                file.flush()
                print(task, record["seed"], record["outcome"], record["error"] or "", file=sys.stderr)

    names = ("mani_skill", "sapien", "mplib", "numpy", "torch")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    table = markdown_table(read_records(args.out))
    text = (
        f"# ManiSkill's own motion planning\n\n{table}\n\n"
        f"Written by `benchmarks/maniskill_planner.py` with {packages}, on one core.\n"
        "Success is judged once, after the solution ended and its last action was held for "
        f"{args.settle_steps} steps;\n"
        'the columns "at the last step" (what ManiSkill\'s own runner counts) and "at any step" (latched)\n'
        "judge the solution before this settling, for comparison.\n"
        "Seconds are those of the solution with its reset, over the episodes that ended; CPU seconds are\n"
        "the ones to trust where the machine had other work.\n"
    )
    args.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
