"""Meta-World's tasks: names, instructions, and the names of their objects.

Nothing here imports Meta-World, so that the names are known without it.
"""

from __future__ import annotations

PREFIX = "metaworld/"
"""What the name of each task begins with, before Meta-World's own."""

INSTRUCTIONS = {
    "assembly-v3": "pick up the nut and place it onto the peg",
    "basketball-v3": "put the basketball into the basket",
    "bin-picking-v3": "move the cube from one bin to the other",
    "box-close-v3": "pick up the lid and close the box with it",
    "button-press-topdown-v3": "press the button from the top",
    "button-press-topdown-wall-v3": "reach over the wall and press the button from the top",
    "button-press-v3": "press the button",
    "button-press-wall-v3": "reach over the wall and press the button",
    "coffee-button-v3": "press the button of the coffee machine",
    "coffee-pull-v3": "pull the mug away from the coffee machine",
    "coffee-push-v3": "push the mug under the coffee machine",
    "dial-turn-v3": "turn the dial",
    "disassemble-v3": "lift the nut off the peg",
    "door-close-v3": "close the door",
    "door-lock-v3": "lock the door",
    "door-open-v3": "open the door",
    "door-unlock-v3": "unlock the door",
    "hand-insert-v3": "insert the hand into the hole",
    "drawer-close-v3": "close the drawer",
    "drawer-open-v3": "open the drawer",
    "faucet-open-v3": "open the faucet",
    "faucet-close-v3": "close the faucet",
    "hammer-v3": "hammer the nail into the board",
    "handle-press-side-v3": "press the handle down from the side",
    "handle-press-v3": "press the handle down",
    "handle-pull-side-v3": "pull the handle up from the side",
    "handle-pull-v3": "pull the handle up",
    "lever-pull-v3": "pull the lever up",
    "pick-place-wall-v3": "pick up the puck, lift it over the wall and place it at the goal",
    "pick-out-of-hole-v3": "pick the puck out of the hole",
    "pick-place-v3": "pick up the puck and place it at the goal",
    "plate-slide-v3": "slide the plate into the cabinet",
    "plate-slide-side-v3": "slide the plate sideways into the cabinet",
    "plate-slide-back-v3": "slide the plate out of the cabinet",
    "plate-slide-back-side-v3": "slide the plate sideways out of the cabinet",
    "peg-insert-side-v3": "insert the peg into the hole from the side",
    "peg-unplug-side-v3": "unplug the peg sideways",
    "soccer-v3": "push the ball into the goal",
    "stick-push-v3": "pick up the stick and push the container with it",
    "stick-pull-v3": "pick up the stick and pull the container with it",
    "push-v3": "push the puck to the goal",
    "push-wall-v3": "push the puck around the wall to the goal",
    "push-back-v3": "push the puck back to the goal",
    "reach-v3": "reach the goal",
    "reach-wall-v3": "reach the goal behind the wall",
    "shelf-place-v3": "pick up the block and place it on the shelf",
    "sweep-into-v3": "sweep the puck into the hole",
    "sweep-v3": "sweep the puck off the table",
    "window-open-v3": "open the window",
    "window-close-v3": "close the window",
}
"""What the robot is told to do, by Meta-World's name of the task. Meta-World has no instructions."""

HARD_TO_JUDGE = {
    PREFIX + "handle-press-v3": "the handle is pressed through the accepted height, and stays below it",
    PREFIX + "handle-press-side-v3": "the handle is pressed through the accepted height, and stays below it",
    PREFIX + "lever-pull-v3": "the lever goes on past the accepted angle",
    PREFIX + "sweep-into-v3": "the puck is swept through the accepted place to the far wall",
    PREFIX + "stick-pull-v3": "the container is within the accepted distance only while the stick is pulled",
}
"""Tasks whose success seldom lasts until everything is at rest, with the reason: Meta-World's policies drive
through the goal."""

_NAMES = {
    "RoundNut": "nut",
    "boxbodytop": "lid",
    "bsktball": "ball",
    "cmbutton": "coffee button",
    "hammerbody": "hammer",
    "obj": "puck",
    "object": "container",
    "plug1": "plug",
    "puck_channel": "plate",
    "soccer_ball": "ball",
    "windowb_a": "window",
}
_NAMES_IN = {"coffee": {"obj": "mug"}, "bin-picking": {"obj": "cube"}, "shelf-place": {"obj": "block"}}


def task_names() -> list[str]:
    """List the names of all tasks, "metaworld/assembly-v3" first."""
    return [PREFIX + name for name in INSTRUCTIONS]


def instruction(task: str) -> str:
    """Return the instruction of a task.

    Args:
        task: Name of the task, "metaworld/assembly-v3" for example.
    """
    return INSTRUCTIONS[task.removeprefix(PREFIX)]


def object_names(task: str) -> dict[str, str]:
    """Return the names of objects by those of their bodies in the model.

    Args:
        task: Meta-World's name of the task.
    """
    special = [names for prefix, names in _NAMES_IN.items() if task.startswith(prefix)]
    return {**_NAMES, **(special[0] if special else {})}
