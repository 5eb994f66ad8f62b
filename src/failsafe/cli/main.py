"""Entry point of the command line: the verbs, and how errors are reported."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Generator

import tyro

from failsafe.cli.streams import OutputLostError, complain, drop_output, prepare_streams, printable
from failsafe.errors import FailSafeError, UserError

VERBS: dict[str, str] = {
    "doctor": "Report what this machine can do, with a command that fixes each problem.",
    "tasks": "List the tasks, with instruction, expert, the success of the expert, and what is missing.",
    "generate": "Perturb tasks in many ways, and prove the smallest correction of each failure.",
    "render": "Render the rollouts of a dataset; frames that exist already are skipped.",
    "coverage": "Print how a dataset covers task, mode, stage, moment and magnitude, and write a page of it.",
    "gallery": "Write a static page of a dataset: nominal rollout, failure and recovery side by side.",
    "replay": "Run one episode again from its record, and compare every state bit for bit.",
    "merge": "Merge the shards of a run into the dataset that a single run would have made.",
    "check-adapter": "Run the conformance suite on a simulator.",
    "check-task": "Try a task before a long run: expert, instruction, objects, cameras, a failure and its "
    "recovery.",
    "export": "Write a dataset in the format of another project.",
    "samples": "Cut training windows out of datasets: rendered once, split by seed.",
    "train": "Train a recovery model on samples.",
    "merge-lora": "Merge LoRA adapters into the weights that they were trained on.",
    "score": "Score a model offline on held-out samples, beside the baselines.",
    "assess": "Assess one step of a recorded episode, and write an image of the model's input.",
    "demonstrate": "Record and render successful episodes of the experts.",
    "imitate": "Train a reference policy on demonstrations, or train one further.",
    "calibrate": "Find alarm thresholds that at most a share alpha of successful episodes exceed.",
    "evaluate": "Evaluate a policy with and without the monitor, from the same initial states.",
    "mine": "Find out how a policy fails, and prove what corrects it.",
    "report": "Write the page of an evaluation, and print its tables.",
    "serve": "Serve a policy with the monitor around it, over openpi's protocol.",
}
"""Every verb with its summary, in the order of `failsafe --help`. The function of the verb `merge-lora` is
`failsafe.cli.merge_lora.merge_lora`; its docstring begins with the summary."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
PIPE_CLOSED = 141
"""Exit status after the reader of the output has gone, as shells have it."""


def main() -> None:
    """Run a verb. A user's mistake is one sentence and exit status 2; a bug is a traceback."""
    prepare_streams()
    try:
        try:
            status = _run()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where an error can still be reported
    except FailSafeError as error:
        complain(printable(str(error)))
        status = 2
    except KeyboardInterrupt:
        complain("interrupted; run the same command again to resume")
        status = INTERRUPTED
    except OutputLostError as lost:
        drop_output()
        status = PIPE_CLOSED
        if not isinstance(lost.__cause__, BrokenPipeError):
            complain(f"could not write the output ({lost.__cause__}); send it to another file")
            status = 2
    sys.exit(status)


def _run() -> int:
    words, trusted = _take_trusted(sys.argv[1:])
    with contextlib.ExitStack() as stack:
        if words and not {"-h", "--help"} & {*words}:
            stack.enter_context(_only_typed_names([*words, *trusted]))
        return tyro.extras.subcommand_cli_from_dict(
            _functions(words[:1]),
            prog="failsafe",
            args=words,
            description="Make robot policies recover from their own failures. With any verb: --trust "
            "MODULE:ATTRIBUTE lets a name that comes from a dataset or a settings file be imported.",
        )


def _take_trusted(words: list[str]) -> tuple[list[str], list[str]]:
    """Split the words of the command line into those of the verb and the names behind --trust."""
    rest: list[str] = []
    trusted: list[str] = []
    waiting = iter(words)
    for word in waiting:
        flag, equals, name = word.partition("=")
        if flag != "--trust":
            rest.append(word)
        elif name := name if equals else next(waiting, ""):
            trusted.append(name)
        else:
            raise UserError("expected --trust MODULE:ATTRIBUTE, got no name")
    return rest, trusted


@contextlib.contextmanager
def _only_typed_names(words: list[str]) -> Generator[None, None, None]:
    """Import only names that were typed, and look for these in the working directory as well."""
    from failsafe.imports import ImportRules, following, names_in

    try:
        folder = os.getcwd()
    except FileNotFoundError as error:
        raise UserError(
            "expected a working directory that exists, got one that was deleted: change to another folder"
        ) from error
    with following(ImportRules(names_in(words), any=False, folder=folder)):
        yield


def verb_function(verb: str) -> Callable[..., int]:
    """Import and return the function of a verb.

    Args:
        verb: A key of `VERBS`.
    """
    name = verb.replace("-", "_")
    return getattr(importlib.import_module(f"failsafe.cli.{name}"), name)


def _functions(words: list[str]) -> dict[str, Callable[..., int]]:
    """Return a function for each verb; only the verb that was typed is imported, so that help is fast."""
    typed = words[0].replace("_", "-") if words else ""
    return {
        verb: verb_function(verb) if verb == typed else _placeholder(summary)
        for verb, summary in VERBS.items()
    }


def _placeholder(summary: str) -> Callable[[], int]:
    def verb() -> int:
        raise AssertionError("a placeholder only describes a verb")

    verb.__doc__ = summary
    return verb
