"""The card of a FailSafe-VLM: what a client must know to query the model.

The card is stored beside the weights and read without them, for example by the client of a server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from failsafe.datasets.files import write_atomically
from failsafe.errors import AssessmentError, RecordError, UserError
from failsafe.models.llava.prompt import PROMPT_VERSION
from failsafe.records import codec
from failsafe.records.assessment import Window, WindowSpec
from failsafe.records.embodiment import MANISKILL_PANDA, EmbodimentSpec

ARCHITECTURE = "LlavaOnevisionForConditionalGeneration"
CARD = "failsafe-vlm.json"


@dataclass(frozen=True)
class LlavaCard:
    """What a client must know to query a checkpoint.

    Attributes:
        spec: The windows that it was trained on.
        base: Base model of its LoRA adapter, a folder or a name on the hub; empty for full weights.
        prompt_version: Version of prompt and answer in training.
        architecture: Class of the model.
        instructions: The instructions that it was trained on.
        train_seeds: By task, the seeds that it was trained on.
        modes: The failure modes that it was trained on.
        embodiment: The robot that it was trained on, whose step limits bound its actions. In earlier cards,
            which do not state it, ManiSkill's Panda.
    """

    spec: WindowSpec
    base: str = ""
    prompt_version: int = PROMPT_VERSION
    architecture: str = ARCHITECTURE
    instructions: tuple[str, ...] = ()
    train_seeds: dict[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    modes: tuple[str, ...] = ()
    embodiment: EmbodimentSpec = MANISKILL_PANDA

    def check(self, window: Window, any_instruction: bool = False) -> None:
        """Check that the model can assess a window.

        Args:
            window: The window.
            any_instruction: Accept instructions that the model was not trained on.

        Raises:
            AssessmentError: If the window does not match `spec`, or its instruction is refused.
        """
        window.check(self.spec)
        if self.instructions and not any_instruction and window.instruction not in self.instructions:
            known = "', '".join(self.instructions)
            raise AssessmentError(f"expected one of the instructions '{known}', got '{window.instruction}'")


def write_card(folder: Path, card: LlavaCard) -> None:
    """Write the card into the folder of a checkpoint.

    Args:
        folder: Folder of the checkpoint.
        card: The card.
    """
    write_atomically(folder / CARD, (codec.dumps(card) + "\n").encode())


def read_card(folder: Path) -> LlavaCard:
    """Read the card of a checkpoint.

    Raises:
        UserError: If there is no card, or the checkpoint is of another architecture or version.
    """
    path = folder / CARD
    if not path.is_file():
        raise UserError(
            f"expected a checkpoint of FailSafe-VLM with {CARD} in {folder}, got none; "
            "train one from llava-hf/llava-onevision-qwen2-7b-ov-hf"
        )
    try:
        card = codec.read(LlavaCard, path)
    except RecordError as error:
        raise UserError(str(error)) from error
    if card.architecture != ARCHITECTURE:
        raise UserError(
            f"expected a checkpoint of {ARCHITECTURE} in {folder}, got one of {card.architecture}"
        )
    if card.prompt_version != PROMPT_VERSION:
        raise UserError(
            f"expected a checkpoint for version {PROMPT_VERSION} of prompt and answer in {folder}, got one "
            f"for version {card.prompt_version}; use the version of FailSafe that trained it, or train again"
        )
    return card
