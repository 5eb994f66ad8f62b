"""The window of a model: its steps and size, and that images are read only when it is cut."""

import numpy as np
from tests.monitors.scripted import SPEC, Images, observation

from failsafe.monitors.history import History
from failsafe.records.assessment import WindowSpec


def filled(steps, spec=SPEC, size=SPEC.size):
    history, per_step = History(spec), [Images(step, size) for step in range(steps)]
    observations = [
        observation(step, width=0.001 * step, images=images) for step, images in enumerate(per_step)
    ]
    for images in per_step:
        images.asked.clear()  # by the check of types
    for seen in observations:
        history.add(seen)
    return history, per_step


def test_it_is_full_after_history_plus_one_steps():
    history = History(SPEC)
    for step in range(SPEC.history + 1):
        assert not history.full
        history.add(observation(step))
    assert history.full
    history.clear()
    assert not history.full
    assert history.observations == ()


def test_images_are_of_the_steps_that_the_spec_states():
    history, _ = filled(12)
    window = history.window("lift the cube")
    # Steps 7 to 11 are kept, with images of 4, 2 and 0 steps ago; "hand" is brighter by 100.
    assert window.frames[:, :, 0, 0, 0].tolist() == [[7, 9, 11], [107, 109, 111]]
    assert window.frames.shape == (2, 3, 8, 8, 3)
    np.testing.assert_allclose(window.gripper_widths, [0.007, 0.008, 0.009, 0.010, 0.011])
    np.testing.assert_allclose(window.tcp_poses[:, 1], [0.07, 0.08, 0.09, 0.10, 0.11], rtol=1e-6)
    assert window.instruction == "lift the cube"
    window.check(SPEC)


def test_a_single_image_is_of_the_last_step():
    history, _ = filled(12, WindowSpec(views=("front",), history=4, frames=1, size=8))
    assert history.window("lift").frames[:, :, 0, 0, 0].tolist() == [[11]]


def test_images_are_read_only_when_a_window_is_cut():
    history, per_step = filled(12)
    assert [p.asked for p in per_step] == [[]] * 12
    history.window("lift")
    asked = [sorted(p.asked) for p in per_step]
    assert [asked[step] for step in (7, 9, 11)] == [["front", "hand"]] * 3
    assert [asked[step] for step in (*range(7), 8, 10)] == [[]] * 9


def test_larger_images_are_resized():
    history, _ = filled(5, size=16)
    assert history.window("lift").frames.shape == (2, 3, 8, 8, 3)
