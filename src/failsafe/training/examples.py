"""Training examples of a vision-language model: a prompt, images, and the answer that the loss is on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

from PIL import Image

from failsafe.errors import UserError
from failsafe.models.llava.answer import answer_of, format_answer
from failsafe.models.llava.prompt import messages, window_images
from failsafe.records.assessment import Window, WindowSpec
from failsafe.records.embodiment import MANISKILL_PANDA, EmbodimentSpec
from failsafe.samples.sample import Sample
from failsafe.training.llava_config import LlavaTrainConfig
from failsafe.training.mixture import VisualQuestion, mixed_order, parse_mix, read_questions


@runtime_checkable
class SampleSource(Protocol):
    """The part of a sample set that training needs."""

    @property
    def spec(self) -> WindowSpec:
        """Format of all windows."""
        ...

    @property
    def samples(self) -> Sequence[Sample]:
        """All samples, in a fixed order."""
        ...

    @property
    def embodiment(self) -> EmbodimentSpec | None:
        """The robot of all samples; None if they do not state it."""
        ...

    def indices(self, split: str) -> Sequence[int]:
        """Return the indices of the samples of a split."""
        ...

    def window(self, index: int) -> Window:
        """Return the window of a sample."""
        ...


def to_learn(samples: SampleSource) -> list[int]:
    """Return the indices of the samples of the split "train" whose correct answer is known.

    For a failing sample between two labels, no correction was searched for, so that its answer is unknown.

    Raises:
        UserError: If there are none.
    """
    train = [(i, samples.samples[i]) for i in samples.indices("train")]
    known = [i for i, sample in train if not sample.failing or sample.recoverable is not None]
    if not known:
        raise UserError(
            "expected samples with images, of the split train and with a known answer, got none: those "
            "made without images are for the compact model alone"
        )
    return known


@dataclass(frozen=True)
class Example:
    """One example in the form that TRL expects.

    Attributes:
        prompt: The chat up to the answer, with a placeholder for every image.
        completion: The answer with its end token.
        images: The images.
    """

    prompt: str
    completion: str
    images: list[Image.Image]


class Examples(Sequence[Example]):
    """All examples, made on access: the images of all of them would not fit in memory.

    Args:
        samples: The samples, of which `to_learn` selects some.
        processor: The model's processor, with the chat template and the end token.
        questions: Visual questions to mix in.
        share: Share of the visual questions among all examples.
        seed: Seed of their selection.

    Raises:
        UserError: If there is no sample to learn, or there are robots with different step limits.
    """

    def __init__(
        self,
        samples: SampleSource,
        processor: Any,
        questions: Sequence[VisualQuestion] = (),
        share: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._samples, self._processor, self._questions = samples, processor, questions
        self._own, self._embodiment = to_learn(samples), samples.embodiment or MANISKILL_PANDA
        self._order = mixed_order(len(self._own), len(questions), share, seed)
        self._end = cast(str, processor.tokenizer.eos_token)

    @property
    def own(self) -> int:
        """Number of examples that are samples; these come first."""
        return len(self._own)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: Any) -> Any:
        own, which = self._order[index]
        if own:
            number = self._own[which]
            window = self._samples.window(number)
            text = format_answer(answer_of(self._samples.samples[number], self._embodiment))
            return Example(self._prompt(messages(window)), text + self._end, window_images(window))
        question = self._questions[which]
        images = [Image.open(path).convert("RGB") for path in question.images]
        return Example(self._prompt(question.messages()), question.answer + self._end, images)

    def _prompt(self, chat: list[dict[str, object]]) -> str:
        return self._processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)


def make_examples(
    samples: SampleSource, config: LlavaTrainConfig, processor: Any, callback: Callable[[str], None]
) -> Examples:
    """Return all examples, with those of the mixture.

    Args:
        samples: The samples.
        config: Settings, of which the mixture and the seed are used.
        processor: The model's processor.
        callback: Called with a line about rows that are left out.

    Raises:
        UserError: If there are no samples, or the mixture cannot be read.
    """
    if not config.mix:
        return Examples(samples, processor)
    mix = parse_mix(config.mix)
    questions, without = read_questions(mix.path)
    if without:
        callback(f"{mix.path}: {without} rows without an image are left out")
    return Examples(samples, processor, questions, mix.share, config.seed)
