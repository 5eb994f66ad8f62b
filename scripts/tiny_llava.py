"""Write a tiny LLaVA-OneVision of the real classes with random weights, to train on a CPU within minutes.

    python scripts/tiny_llava.py SAMPLES OUT
    failsafe train SAMPLES --model OUT --out runs/tiny

The merges of its tokenizer are learned from the samples' prompts and answers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from failsafe.models.llava.answer import answer_of, format_answer
from failsafe.models.llava.prompt import prompt_text
from failsafe.models.llava.tiny import make_tiny
from failsafe.records.embodiment import MANISKILL_PANDA
from failsafe.samples.sample_set import SampleSet
from failsafe.training.examples import to_learn


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: The command line; None for that of this process.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("samples", type=Path, help="folder made by `failsafe samples`")
    parser.add_argument("out", type=Path, help="folder for the checkpoint")
    options = parser.parse_args(arguments)
    samples = SampleSet(options.samples)
    rows, robot = to_learn(samples)[:256], samples.embodiment or MANISKILL_PANDA
    texts = [prompt_text(samples.window(i)) for i in rows]
    texts += [format_answer(answer_of(samples.samples[i], robot)) for i in rows]
    make_tiny(options.out, texts)
    print(f"{options.out}; next: failsafe train {options.samples} --model {options.out} --out runs/tiny")


if __name__ == "__main__":
    main()
