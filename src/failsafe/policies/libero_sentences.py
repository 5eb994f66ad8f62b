"""The sentences that LIBERO's evaluations give to a policy, where they differ from a task's own instruction.

The evaluations take the sentence from the name of a task's file. FailSafe's instruction is the one that the
file itself states, which is also right for the variants of LIBERO-PRO. Checkpoints know the former.
"""

from __future__ import annotations

SENTENCES = {
    "pick the akita black bowl between the plate and the ramekin and place it on the plate": (
        "pick up the black bowl between the plate and the ramekin and place it on the plate"
    ),
    "pick the akita black bowl next to the ramekin and place it on the plate": (
        "pick up the black bowl next to the ramekin and place it on the plate"
    ),
    "pick the akita black bowl from table center and place it on the plate": (
        "pick up the black bowl from table center and place it on the plate"
    ),
    "pick the akita black bowl on the cookies box and place it on the plate": (
        "pick up the black bowl on the cookie box and place it on the plate"
    ),
    "pick the akita black bowl in the top layer of the wooden cabinet and place it on the plate": (
        "pick up the black bowl in the top drawer of the wooden cabinet and place it on the plate"
    ),
    "pick the akita black bowl on the ramekin and place it on the plate": (
        "pick up the black bowl on the ramekin and place it on the plate"
    ),
    "pick the akita black bowl next to the cookies box and place it on the plate": (
        "pick up the black bowl next to the cookie box and place it on the plate"
    ),
    "pick the akita black bowl on the stove and place it on the plate": (
        "pick up the black bowl on the stove and place it on the plate"
    ),
    "pick the akita black bowl next to the plate and place it on the plate": (
        "pick up the black bowl next to the plate and place it on the plate"
    ),
    "pick the akita black bowl on the wooden cabinet and place it on the plate": (
        "pick up the black bowl on the wooden cabinet and place it on the plate"
    ),
    "pick the alphabet soup and place it in the basket": (
        "pick up the alphabet soup and place it in the basket"
    ),
    "pick the cream cheese and place it in the basket": (
        "pick up the cream cheese and place it in the basket"
    ),
    "pick the salad dressing and place it in the basket": (
        "pick up the salad dressing and place it in the basket"
    ),
    "pick the bbq sauce and place it in the basket": "pick up the bbq sauce and place it in the basket",
    "pick the ketchup and place it in the basket": "pick up the ketchup and place it in the basket",
    "pick the tomato sauce and place it in the basket": (
        "pick up the tomato sauce and place it in the basket"
    ),
    "pick the butter and place it in the basket": "pick up the butter and place it in the basket",
    "pick the milk and place it in the basket": "pick up the milk and place it in the basket",
    "pick the chocolate pudding and place it in the basket": (
        "pick up the chocolate pudding and place it in the basket"
    ),
    "pick the orange juice and place it in the basket": (
        "pick up the orange juice and place it in the basket"
    ),
    "open the middle layer of the drawer": "open the middle drawer of the cabinet",
    "put the wine bottle on the top of the drawer": "put the wine bottle on top of the cabinet",
    "open the top layer of the drawer and put the bowl inside": (
        "open the top drawer and put the bowl inside"
    ),
    "put the bowl on the top of the drawer": "put the bowl on top of the cabinet",
    "put the cream cheese on the bowl": "put the cream cheese in the bowl",
    "put the black bowl in the middle on the plate": "put the middle black bowl on the plate",
    "stack the black bowl in the middle on the black bowl at the front": (
        "stack the middle black bowl on the back black bowl"
    ),
    "pick up the red mug and place it to the right compartment of the caddy": (
        "pick up the red mug and place it to the right of the caddy"
    ),
    "pick up the white mug and place it to the right compartment of the caddy": (
        "pick up the white mug and place it to the right of the caddy"
    ),
}
"""The sentence from the name of the file, by the instruction that the file states."""


def evaluation_sentence(instruction: str) -> str:
    """Return the sentence that LIBERO's evaluations give to a policy for a task with this instruction."""
    return SENTENCES.get(instruction, instruction)


def stated_instruction(sentence: str) -> str:
    """Return the instruction of the task for which LIBERO's evaluations give a policy this sentence."""
    return _STATED.get(sentence, sentence)


_STATED = {sentence: instruction for instruction, sentence in SENTENCES.items()}
