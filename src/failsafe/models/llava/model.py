"""LLaVA-OneVision in this process. Needs transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from failsafe.errors import UserError
from failsafe.models.llava import checkpoint
from failsafe.models.llava.answer import MAX_TOKENS, PREFIX
from failsafe.models.llava.card import LlavaCard, read_card
from failsafe.models.llava.prompt import messages, window_images
from failsafe.models.llava.reading import Token, to_assessment
from failsafe.records.assessment import Assessment, Window, WindowSpec


class LlavaModel:
    """A checkpoint of FailSafe-VLM as a recovery model.

    The start of the answer, up to the decision, is given. The logits of `yes` and `no` at the next token give
    the failure probability. The rest is generated greedily, so the same window gives the same assessment.

    Args:
        folder: The checkpoint, merged or with its LoRA adapter.
        device: "cuda" or "cpu"; empty: the GPU if there is one.
        max_tokens: Largest number of generated tokens.
        any_instruction: Assess instructions that it was not trained on; by default they are refused.

    Raises:
        UserError: If the folder holds no checkpoint of FailSafe-VLM, or one of another version.
    """

    def __init__(
        self, folder: Path, device: str = "", max_tokens: int = MAX_TOKENS, any_instruction: bool = False
    ) -> None:
        self._card = read_card(folder)
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        # Training stores the processor beside the adapter as well.
        self._processor = checkpoint.load_processor(str(folder))
        dtype = torch.bfloat16 if self._device.type == "cuda" else torch.float32
        self._model = checkpoint.load_trained(folder, self._card, dtype).to(cast(Any, self._device)).eval()
        self._tokenizer: Any = cast(Any, self._processor).tokenizer
        self._prefix, self._words = decision_tokens(self._tokenizer)
        self._max_tokens, self._any_instruction = max_tokens, any_instruction
        self._name = folder.resolve().name

    @property
    def name(self) -> str:
        """Name in tables."""
        return self._name

    @property
    def window_spec(self) -> WindowSpec:
        """The windows that it takes."""
        return self._card.spec

    @property
    def instructions(self) -> tuple[str, ...]:
        """The instructions that it assesses; none if it assesses any."""
        return () if self._any_instruction else self._card.instructions

    @property
    def meta(self) -> LlavaCard:
        """The card of its training."""
        return self._card

    @torch.inference_mode()
    def assess(self, window: Window) -> Assessment:
        """Assess one window.

        Raises:
            AssessmentError: If the window does not match `window_spec`, or the model refuses its instruction.
        """
        self._card.check(window, self._any_instruction)
        inputs = self._inputs(window)
        written = _Recorder(self._words)
        asked = inputs["input_ids"].shape[1]
        ids = cast(
            torch.Tensor,
            cast(Any, self._model).generate(
                **inputs,
                max_new_tokens=self._max_tokens,
                do_sample=False,
                logits_processor=LogitsProcessorList([written]),
                eos_token_id=self._tokenizer.eos_token_id,
                pad_token_id=self._tokenizer.pad_token_id,
            ),
        )[0, asked:].tolist()
        end = self._tokenizer.eos_token_id
        ids = ids[: ids.index(end)] if end in ids else ids
        tokens = [Token(PREFIX, 0.0)]
        for index, number in enumerate(ids):
            others = written.decision if index == 0 else {}
            tokens.append(Token(self._tokenizer.decode([number]), written.logprobs[index], others))
        # Decode all tokens at once: a character beyond ASCII may span several tokens.
        text = PREFIX + self._tokenizer.decode(ids)
        return to_assessment(text, tokens, self._card.embodiment, modes=self._card.modes)

    def _inputs(self, window: Window) -> dict[str, torch.Tensor]:
        processor = cast(Any, self._processor)
        text = processor.apply_chat_template(messages(window), add_generation_prompt=True, tokenize=False)
        inputs = processor(
            images=[window_images(window)], text=[text], add_special_tokens=False, return_tensors="pt"
        ).to(self._device, self._model.dtype)
        # Append as tokens, because training tokenizes prompt and answer separately, too.
        prefix = torch.tensor([self._prefix], device=self._device)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], prefix], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        return dict(inputs)


def decision_tokens(tokenizer: Any) -> tuple[list[int], dict[str, int]]:
    """Return the tokens of `PREFIX`, and the token of each word, "yes" and "no", behind it.

    Raises:
        UserError: If the tokenizer does not encode each word as a token of its own.
    """

    def spell(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    prefix = spell(PREFIX)
    words: dict[str, int] = {}
    for word in ("yes", "no"):
        whole = spell(f'{PREFIX}{word}"')
        here = whole[len(prefix) : len(prefix) + 1]
        if whole[: len(prefix)] != prefix or tokenizer.decode(here) != word:
            raise UserError(
                f"expected a tokenizer with a token '{word}' after '{PREFIX}', got "
                f"{tokenizer.convert_ids_to_tokens(whole)}: no probability can be read from it"
            )
        words[word] = here[0]
    return prefix, words


class _Recorder(LogitsProcessor):
    """Records the log-probability of each generated token, and of both words at the first one."""

    def __init__(self, words: dict[str, int]) -> None:
        self._words = words
        self.logprobs: list[float] = []
        self.decision: dict[str, float] = {}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        logprobs = torch.log_softmax(scores[0].float(), dim=-1)
        if not self.logprobs:
            self.decision = {word: float(logprobs[number]) for word, number in self._words.items()}
        self.logprobs.append(float(logprobs.max()))
        return scores
