"""A perturbed rollout takes over what it has in common with the nominal one, and is the same bit for bit."""

import dataclasses

import numpy as np
import pytest

from failsafe.experts.tasks import load_task
from failsafe.generation.nominal import run_nominal
from failsafe.generation.perturbed import run_perturbed
from failsafe.perturbations import MODES
from failsafe.records.perturbation import Perturbation
from failsafe.simulators.contract import Exactness


@pytest.mark.parametrize("name", ["ToyPick-v0", "ToyPush-v0", "ToyStack-v0"])
def test_a_rollout_that_begins_in_the_middle_of_the_nominal_one_is_the_same(name):
    task = load_task(name)
    nominal = run_nominal(task, 3)
    spans = nominal.record.spans
    steps, counts = [0], []
    step = task.simulator.step

    def counted(*arguments):
        steps[0] += 1
        step(*arguments)

    task.simulator.step = counted
    for mode in MODES:
        stages = [i for i in range(len(spans)) if MODES[mode].applies(nominal.scene, i)]
        for stage in stages[-1:]:
            magnitude = MODES[mode].magnitude.quantile(0.5)
            subject = MODES[mode].candidates(nominal.scene, stage)[0]
            drawn = Perturbation(mode, stage, "", 0.4, magnitude, "", 0.7, subject)
            found = []
            for exactness in (Exactness.RESTORE, Exactness.REPLAY):
                task.simulator._spec = dataclasses.replace(task.simulator.spec, exactness=exactness)
                steps[0] = 0
                found.append(run_perturbed(task, nominal, (drawn,)))
                counts.append(steps[0])
            for field in dataclasses.fields(found[0].trace):
                one, other = (getattr(rollout.trace, field.name) for rollout in found)
                assert one == other if isinstance(one, tuple) else one.tobytes() == other.tobytes(), mode
            assert found[0].spans == found[1].spans
            assert dataclasses.replace(found[1], trace=found[0].trace) == found[0]
    assert np.sum(counts[::2]) < np.sum(counts[1::2])
