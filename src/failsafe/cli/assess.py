"""`failsafe assess`: one verdict on one moment of a recorded episode, with the pictures it was made from."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from failsafe.cli.output import print_json
from failsafe.cli.score import closing, connect
from failsafe.datasets.files import write_atomically
from failsafe.datasets.store import Dataset
from failsafe.errors import UnknownNameError
from failsafe.experts.tasks import load_task
from failsafe.models.contract import assess_safely
from failsafe.records import codec
from failsafe.records.assessment import Status, Window, WindowSpec
from failsafe.samples.manifest import SampleConfig
from failsafe.samples.windows import cut_window, window_cameras


def assess(
    checkpoint: tyro.conf.Positional[str],
    data: tyro.conf.Positional[Path],
    episode: tyro.conf.Positional[str],
    /,
    step: int,
    rollout: str = "failing",
    shift: float = 0.0,
    out: Path = Path("assessment.png"),
    endpoint: str = "",
    size: int = 384,
    any_instruction: bool = False,
    json: bool = False,
) -> int:
    """Assess one step of a recorded episode, and write a picture of the model's input.

    Args:
        checkpoint: Checkpoint file or folder, or "compact" for the one that ships.
        data: Folder of the dataset.
        episode: Name of the work item.
        step: Control step to assess.
        rollout: "nominal", "failing", or "recovery_0" and so on.
        shift: Metres by which each camera is moved first.
        out: File for the pictures: a row for each view, the oldest moment on the left.
        endpoint: Address of an OpenAI-compatible server that serves the checkpoint; a key for it is
            taken from FAILSAFE_API_KEY.
        size: With --endpoint and no folder of the checkpoint here: height and width of the pictures.
        any_instruction: Assess a task that the model was not trained on, too.
        json: Print the result as JSON.
    """
    model = connect(checkpoint, endpoint, any_instruction, WindowSpec(size=size))
    dataset = Dataset(data)
    case = dataset.find(episode)
    traces = dataset.traces(case.task, case.case_id)
    traces["nominal"] = dataset.nominal(case.task, case.seed)[1]
    if rollout not in traces:
        raise UnknownNameError(f"rollout of {case.case_id}", rollout, traces)
    simulator = load_task(case.task).simulator
    simulator.reset(case.seed)
    spec = model.window_spec
    config = SampleConfig(window=spec, jitter_metres=shift, shifted=True)
    cameras = window_cameras(simulator, config, f"{episode} {step}")
    frames, tcp_poses, widths = cut_window(simulator, traces[rollout], step, spec, cameras)
    window = Window(case.instruction, spec, frames, tcp_poses, widths)
    with closing(model):
        assessment = assess_safely(model, window)
    buffer = io.BytesIO()
    rows = [np.concatenate(list(view), axis=1) for view in frames]
    Image.fromarray(np.concatenate(rows, axis=0)).save(buffer, "PNG")
    write_atomically(out, buffer.getvalue())
    if json:
        print_json({"verdict": codec.to_plain(assessment), "frames": str(out)})
    else:
        print(f"{case.instruction}, step {step} of {rollout}:")
        if assessment.status is not Status.OK:
            print(f"{assessment.status.value}: {assessment.reason}")
        else:
            print(f"failing with probability {assessment.failure_probability:.3f}; {assessment.explanation}")
            for row in assessment.actions:
                print("  " + " ".join(f"{value:+.4f}" for value in row))
        print(f"{1000 * assessment.latency:.0f} ms; what it saw: {out}")
    return 0 if assessment.status is Status.OK else 1
