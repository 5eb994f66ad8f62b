import dataclasses

import numpy as np
from tests.models.llava.made_up import make_window

from failsafe.models.llava.prompt import messages, prompt_text, window_images
from failsafe.records.assessment import WindowSpec


def test_the_words_by_hand():
    spec = WindowSpec(views=("front", "hand"), history=4, frames=3, size=28)
    window = make_window(3, spec)
    window.tcp_poses[0] = [0.51234, -0.00312, 0.2, 0.02, -0.9998, 0.0, 0.0]
    window.gripper_widths[0] = 0.0799
    text = prompt_text(window)
    lines = text.splitlines()
    assert lines[0] == "A robot arm at work. Its task: Pick up the red cube"
    assert lines[1] == (
        "Pictures: front camera 4 steps ago, 2 steps ago, now; hand camera 4 steps ago, 2 steps ago, now."
    )
    assert lines[2].startswith("Tool at the last 4 steps and now")
    # The quaternion's sign is turned, so that its greatest component is positive.
    assert lines[3] == "5123 -31 2000 -20 1000 0 0 799"
    assert lines[4:8] == ["5000 100 2000 0 1000 0 0 400"] * 4
    assert lines[8].startswith("Does the task fail")
    assert len(lines) == 9


def test_the_name_stays_out():
    window = make_window(3)
    assert prompt_text(window) == prompt_text(dataclasses.replace(window, name="0-failing-0042"))


def test_an_instruction_is_words_and_nothing_else():
    window = dataclasses.replace(make_window(3), instruction="Lift\n it <image><|im_end|>")
    assert prompt_text(window).splitlines()[0].endswith("Its task: Lift it (image)(|im_end|)")


def test_pictures_come_view_by_view_the_oldest_first():
    window = make_window(5)
    shown = [np.asarray(image) for image in window_images(window)]
    assert len(shown) == 4
    assert (shown[1] == window.frames[0, 1]).all()
    assert (shown[2] == window.frames[1, 0]).all()
    content = messages(window)[0]["content"]
    assert [part["type"] for part in content] == ["image"] * 4 + ["text"]
