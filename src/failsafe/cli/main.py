"""Where the command begins: verbs, and what happens to errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import tyro

from failsafe.cli.assess import assess
from failsafe.cli.calibrate import calibrate
from failsafe.cli.check_adapter import check_adapter
from failsafe.cli.coverage import coverage
from failsafe.cli.demonstrate import demonstrate
from failsafe.cli.doctor import doctor
from failsafe.cli.evaluate import evaluate
from failsafe.cli.gallery import gallery
from failsafe.cli.generate import generate
from failsafe.cli.imitate import imitate
from failsafe.cli.merge import merge
from failsafe.cli.merge_lora import merge_lora
from failsafe.cli.render import render
from failsafe.cli.replay import replay
from failsafe.cli.report import report
from failsafe.cli.samples import samples
from failsafe.cli.score import score
from failsafe.cli.serve import serve
from failsafe.cli.train import train
from failsafe.errors import FailSafeError

VERBS: dict[str, Callable[..., int]] = {
    "doctor": doctor,
    "generate": generate,
    "render": render,
    "coverage": coverage,
    "gallery": gallery,
    "replay": replay,
    "merge": merge,
    "check-adapter": check_adapter,
    "samples": samples,
    "train": train,
    "merge-lora": merge_lora,
    "score": score,
    "assess": assess,
    "demonstrate": demonstrate,
    "imitate": imitate,
    "calibrate": calibrate,
    "evaluate": evaluate,
    "report": report,
    "serve": serve,
}
INTERRUPTED = 130


def main() -> None:
    """Run a verb. A user's mistake is one sentence and exit status 2; a bug is a traceback."""
    # MODULE:FUNCTION of one's own is looked for where the command is typed, as `python -m` does.
    sys.path.insert(0, os.getcwd())
    try:
        status = tyro.extras.subcommand_cli_from_dict(
            VERBS,
            prog="failsafe",
            description="Make robot policies survive their own failures.",
        )
    except FailSafeError as error:
        print(f"failsafe: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("failsafe: interrupted; the same command goes on where this one was", file=sys.stderr)
        status = INTERRUPTED
    sys.exit(status)
