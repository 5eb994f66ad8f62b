"""ManiSkill's tasks, each with the nominal rollout of one seed, made at first use."""

import numpy as np
import pytest

SEED = 7


@pytest.fixture(scope="module")
def scenes():
    from failsafe.experts.tasks import load_task
    from failsafe.generation.nominal import run_nominal

    made = {}

    def get(name):
        if name not in made:
            task = load_task(name)
            made[name] = (task, run_nominal(task, SEED))
            assert made[name][1].record.success
        return made[name]

    yield get
    for task, _ in made.values():
        task.simulator.close()


def replay(simulator, trace, steps=None):
    """The states that the recorded commands and disturbances give, from a reset on."""
    simulator.reset(SEED)
    states = [simulator.state()]
    for step, command in enumerate(trace.commands[:steps]):
        simulator.step(command, trace.disturbances_at(step))
        states.append(simulator.state())
    return np.array(states)
