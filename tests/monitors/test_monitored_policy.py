"""A policy with a monitor around it: unchanged until the monitor takes over."""

from dataclasses import replace

import numpy as np
import pytest
from tests.monitors.scripted import (
    EVERY,
    FINE,
    FIRST,
    SPEC,
    UP,
    Images,
    ScriptedModel,
    failing,
    observation,
    settings,
)

from failsafe.errors import PolicyError
from failsafe.monitors.monitored import MonitoredPolicy
from failsafe.policies.contract import ActionSpace, Anchor, Frame, RotationFormat
from failsafe.records import poses
from failsafe.records.event import EventKind


class Counts:
    """Returns numbered chunks, and records its calls."""

    name = "counts"
    views = {"front": 4}  # noqa: RUF012 -- made up

    def __init__(self, space=None):
        self.action_space = space or ActionSpace(chunk=3)
        self.chunks, self.drops, self.told, self.shapes = 0, 0, [], []

    def reset(self, instruction):
        self.told.append(instruction)

    def act(self, observation):
        self.shapes.append({view: image.shape for view, image in observation.images.items()})
        self.chunks += 1
        rows = np.arange(self.action_space.chunk * 7).reshape(-1, 7)
        return (self.chunks + rows / 1000.0) / 3.0

    def drop_queue(self):
        self.drops += 1


def guarded(*answers, policy=None, **changes):
    policy = MonitoredPolicy(policy or Counts(), ScriptedModel(*answers), 0.5, settings(**changes))
    policy.reset("lift")
    return policy


def test_actions_pass_unchanged_and_one_at_a_time():
    policy, alone = guarded(FINE), Counts()
    said = [policy.act(observation(step)) for step in range(12)]
    assert {rows.shape for rows in said} == {(1, 7)}
    expected = np.concatenate([alone.act(observation(0)) for _ in range(4)])
    assert np.concatenate(said).tobytes() == expected.tobytes()
    assert policy.monitor.model.asked == 2
    assert policy.base.drops == 0


def test_it_is_a_policy():
    policy = guarded(FINE, policy=Counts(ActionSpace(chunk=5, rate_hz=10.0)))
    assert policy.name == "counts + scripted"
    assert policy.action_space == ActionSpace(chunk=1, rate_hz=10.0)
    assert policy.base.told == ["lift"]
    assert policy.views == {"front": 8, "hand": 8}


def test_the_base_gets_its_own_views_at_its_own_size():
    policy = guarded(FINE)
    policy.act(observation(0))
    assert policy.base.shapes == [{"front": (4, 4, 3)}]
    larger = Counts()
    larger.views = {"front": 16, "side": 8}
    policy = guarded(FINE, policy=larger)
    assert policy.views == {"front": 16, "side": 8, "hand": 8}
    policy.act(observation(0, images=Images(0, 16, ("front", "side", "hand"))))
    assert larger.shapes == [{"front": (16, 16, 3), "side": (8, 8, 3)}]


@pytest.mark.parametrize(
    "space",
    [
        ActionSpace(chunk=3),
        ActionSpace(anchor=Anchor.MEASURED, translation_scale=0.02, gripper_open=-1.0, gripper_closed=1.0),
        ActionSpace(frame=Frame.TOOL, rotation=RotationFormat.EULER, rotation_scale=0.1, chunk=2),
    ],
)
def test_a_correction_is_given_in_the_bases_own_space(space):
    turn = (0.01, 0.0, 0.005, 0.02, -0.05, 0.03, -0.5)
    policy = guarded(failing(actions=(UP, turn)), policy=Counts(space))
    for step in range(FIRST):
        policy.act(observation(step))
    start = observation(FIRST).tcp_pose
    wanted = [poses.apply_delta(start, UP[:6])]
    wanted.append(poses.apply_delta(wanted[0], turn[:6]))
    for step, pose, gripper in zip((FIRST, FIRST + 1), wanted, (1.0, -0.5), strict=True):
        target = poses.pose([0.4, 0.1, 0.2], (0.0, 0.9, 0.1, 0.0))
        seen = replace(observation(step), target_pose=target)
        row = policy.act(seen)[0]
        led, fingers = space.to_pose(row, target, seen.tcp_pose)
        assert max(poses.distance(led, pose)) < 1e-9
        assert fingers == pytest.approx(gripper)


def test_the_bases_queue_is_dropped_when_the_monitor_takes_over():
    policy = guarded(failing(actions=(UP,) * 2), takeovers=1)
    for step in range(FIRST):  # two actions of the second chunk are executed, the third is queued
        policy.act(observation(step))
    assert (policy.base.chunks, policy.base.drops) == (2, 0)
    policy.act(observation(FIRST))
    policy.act(observation(FIRST + 1))
    assert (policy.base.chunks, policy.base.drops) == (2, 1)
    row = policy.act(observation(FIRST + 2))[0]
    assert (policy.base.chunks, row[0]) == (3, 1.0)


def test_there_is_no_query_during_a_correction():
    policy = guarded(failing(actions=(UP,) * 20), takeovers=1)
    for step in range(FIRST + 21 + EVERY):
        policy.act(observation(step))
    kinds = [(event.step, event.kind) for event in policy.monitor.events]
    assert kinds[:4] == [
        (FIRST, EventKind.QUERY),
        (FIRST, EventKind.ALARM),
        (FIRST, EventKind.TAKE_OVER),
        (FIRST + 20, EventKind.HAND_BACK),
    ]
    assert kinds[4] == (FIRST + 20 + EVERY, EventKind.QUERY)


def test_a_reset_or_a_dropped_queue_ends_a_correction():
    for end in (lambda policy: policy.reset("lift"), lambda policy: policy.drop_queue()):
        policy = guarded(failing(actions=(UP,) * 9), takeovers=1)
        for step in range(FIRST + 2):
            policy.act(observation(step))
        chunks = policy.base.chunks
        end(policy)
        policy.act(observation(FIRST + 2))
        assert policy.base.chunks == chunks + 1


@pytest.mark.parametrize("chunk", [np.zeros((4, 7)), np.zeros((1, 6)), np.full((1, 7), np.nan), "text"])
def test_a_malformed_chunk_is_the_bases_error(chunk):
    policy = guarded(FINE)
    policy.base.act = lambda observation: chunk
    with pytest.raises(PolicyError, match="counts: expected"):
        policy.act(observation(0))


def test_the_window_has_the_models_size_if_the_base_takes_larger_images():
    model = ScriptedModel(FINE)
    seen = []
    model.assess = lambda window: seen.append(window) or FINE
    base = Counts()
    base.views = {"front": 16, "hand": 16}
    policy = MonitoredPolicy(base, model, 0.5, settings())
    policy.reset("lift")
    for step in range(FIRST + 1):
        policy.act(observation(step, images=Images(step, 16)))
    assert seen[0].frames.shape == (2, 3, 8, 8, 3)
    seen[0].check(SPEC)
