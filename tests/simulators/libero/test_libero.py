"""LIBERO on MuJoCo: motion, states, success, names and errors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("libero")

from failsafe.simulators.libero.simulator import LiberoSimulator

pytestmark = pytest.mark.libero


@pytest.fixture(scope="module")
def simulator() -> Iterator[LiberoSimulator]:
    made = LiberoSimulator("libero_goal/3")
    yield made
    made.close()


def test_a_restored_state_goes_on_bit_for_bit(simulator: LiberoSimulator) -> None:
    simulator.reset(2)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (8, 7)).astype(np.float32)
    states = [simulator.state()]
    for action in actions:
        simulator.step(action)
        states.append(simulator.state())
    simulator.reset(60)
    simulator.restore(states[4])
    for action, expected in zip(actions[4:], states[5:], strict=True):
        simulator.step(action)
        assert simulator.state().tobytes() == expected.tobytes()
