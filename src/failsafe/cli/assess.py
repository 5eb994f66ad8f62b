"""`failsafe assess`: what a model says about one step of a recorded episode."""

from __future__ import annotations

import io
from pathlib import Path

import tyro
from PIL import Image

from failsafe.cli.output import print_json
from failsafe.cli.score import closing, connect
from failsafe.datasets.files import write_atomically
from failsafe.datasets.store import open_dataset
from failsafe.evaluation.inspection import inspect_step
from failsafe.records import codec
from failsafe.records.assessment import Status, WindowSpec


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
    """Assess one step of a recorded episode, and write an image of the model's input.

    Args:
        checkpoint: Checkpoint file or folder, or "compact" for the shipped model.
        data: Folder of the dataset.
        episode: Name of the case.
        step: Control step to assess.
        rollout: "nominal", "failing", or "recovery_0" and so on.
        shift: Distance by which each camera is displaced, metres.
        out: File for the images: a row for each view, the oldest moment on the left.
        endpoint: URL of an OpenAI-compatible server that serves the checkpoint; the API key is taken from
            FAILSAFE_API_KEY.
        size: With --endpoint, if the checkpoint's folder is not on this machine: height and width of the
            images, pixels.
        any_instruction: Also assess tasks that the model was not trained on.
        json: Print the result as JSON.
    """
    model = connect(checkpoint, endpoint, any_instruction, WindowSpec(size=size))
    with closing(model):
        found = inspect_step(model, open_dataset(data), episode, step, rollout, shift)
    assessment, buffer = found.assessment, io.BytesIO()
    Image.fromarray(found.image).save(buffer, "PNG")
    write_atomically(out, buffer.getvalue())
    if json:
        print_json({"assessment": codec.to_plain(assessment), "frames": str(out)})
    else:
        print(f"{found.instruction}, step {step} of {rollout}:")
        if assessment.status is not Status.OK:
            print(f"{assessment.status.value}: {assessment.reason}")
        else:
            print(f"failing with probability {assessment.failure_probability:.3f}; {assessment.explanation}")
            for row in assessment.actions:
                print("  " + " ".join(f"{value:+.4f}" for value in row))
        print(f"{1000 * assessment.latency:.0f} ms; its input: {out}")
    return 0 if assessment.status is Status.OK else 1
