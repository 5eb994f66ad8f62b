"""Measure what the economical images of the MuJoCo suites cost and how they differ from the full ones.

    python -m benchmarks.rendering

Writes `benchmarks/results/rendering.json`; `python -m scripts.figures` inserts its table into
docs/simulators.md.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from failsafe.experts.tasks import load_task
from failsafe.simulators.contract import RendersFully, Simulator

TASKS = ("metaworld/pick-place-v3", "metaworld/drawer-open-v3", "metaworld/button-press-v3", "libero_goal/3")
CAMERAS, SIZE = ("front", "hand"), 224
SEEDS, STEPS = range(2), (0, 30)
"""Initial states, and control steps with random commands after which images are rendered."""
RESULTS = Path(__file__).parent / "results" / "rendering.json"


def main() -> None:
    """Measure all tasks, and write the record."""
    rows: dict[str, dict[str, float]] = {}
    for name in TASKS:
        simulator = load_task(name).simulator
        rows[name] = measure(simulator)
        simulator.close()
        print(name, rows[name], flush=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measure(simulator: Simulator) -> dict[str, float]:
    """Render the same states with both settings.

    Args:
        simulator: A simulator with two settings.

    Returns:
        `light_ms` and `full_ms`: median CPU time of an image, milliseconds. `difference`: mean absolute
        difference between the images, of 255. `changed`: share of the pixels that differ by more than 10.
    """
    assert isinstance(simulator, RendersFully)
    states = [state for seed in SEEDS for state in _states(simulator, seed)]
    light, full = (_render(simulator, states, quality) for quality in (False, True))
    pairs = [np.abs(a.astype(int) - b) for a, b in zip(light[0], full[0], strict=True)]
    return {
        "light_ms": round(statistics.median(light[1]), 1),
        "full_ms": round(statistics.median(full[1]), 1),
        "difference": round(float(np.mean(pairs)), 2),
        "changed": round(float(np.mean([pair.max(-1) > 10 for pair in pairs])), 4),
        "images": len(pairs),
    }


def _states(simulator: Simulator, seed: int) -> list[tuple[int, np.ndarray]]:
    """Return states of an episode with random commands, with their seed."""
    rng = np.random.default_rng(seed)
    simulator.reset(seed)
    found: list[tuple[int, np.ndarray]] = []
    for step in range(max(STEPS) + 1):
        if step in STEPS:
            found.append((seed, simulator.state()))
        simulator.step(rng.uniform(-1, 1, simulator.spec.command_size).astype(np.float32))
    return found


def _render(
    simulator: Any, states: list[tuple[int, np.ndarray]], full: bool
) -> tuple[list[UInt8[np.ndarray, "H W 3"]], list[float]]:
    """Return an image of each state and camera, and the CPU times, milliseconds."""
    simulator.render_fully(full)
    images: list[UInt8[np.ndarray, "H W 3"]] = []
    times: list[float] = []
    for seed, state in states:
        simulator.reset(seed)
        simulator.restore(state)
        simulator.render([CAMERAS[0]], SIZE)  # constructs the renderer
        for camera in CAMERAS:
            began = time.process_time()
            images.append(simulator.render([camera], SIZE)[0])
            times.append(1000 * (time.process_time() - began))
    return images, times


def figures() -> dict[str, str]:
    """Return the table of docs/simulators.md."""
    rows: dict[str, dict[str, float]] = json.loads(RESULTS.read_text(encoding="utf-8"))
    head = (
        "| task | economical, ms | full, ms | mean difference, of 255 | pixels that differ by more than 10 |"
    )
    lines = [
        f"| {name} | {row['light_ms']:.0f} | {row['full_ms']:.0f} | {row['difference']:.1f} | "
        f"{100 * row['changed']:.0f} % |"
        for name, row in rows.items()
    ]
    return {"table": "\n".join([head, "| --- | ---: | ---: | ---: | ---: |", *lines])}


if __name__ == "__main__":
    main()
