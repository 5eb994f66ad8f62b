"""The conformance suite for policies.

Each rule is a function whose docstring states the rule. It returns a summary of what was observed, or raises
`Broken` with what was expected and what was observed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8

from failsafe.errors import PolicyError
from failsafe.policies.contract import ActionSpace, Policy, check_chunk, reset_policy
from failsafe.records import poses
from failsafe.records.observation import PolicyObservation
from failsafe.simulators.conformance import CheckResult, check_rule
from failsafe.simulators.conformance.bench import Broken

MEMBERS = ("name", "action_space", "views", "reset", "act", "drop_queue")
REACH = 0.5
"""Largest plausible translation of one action, metres; a larger one means a wrong scale."""
_SEED = 0
"""Seed of every episode, for a policy that takes one."""
_DOWN = (0.0, 1.0, 0.0, 0.0)


@dataclass(frozen=True)
class Subject:
    """A policy under test.

    Attributes:
        policy: The policy.
        instruction: An instruction that it knows.
        repeatable: Whether the same episode must give the same chunk.
    """

    policy: Policy
    instruction: str
    repeatable: bool = True


def check_policy(policy: Policy, instruction: str, repeatable: bool = True) -> tuple[CheckResult, ...]:
    """Check every rule on a policy, with noise images and a tool that points down.

    Args:
        policy: The policy.
        instruction: An instruction that it knows.
        repeatable: Whether the same episode must give the same chunk; False for a policy that samples and
            takes no seed.

    Returns:
        One result for each rule. A rule that raises another exception counts as violated.
    """
    case = Subject(policy, instruction, repeatable)
    return tuple(check_rule(rule, case) for rule in RULES)


def the_name_and_the_spaces_are_sane(case: Subject) -> str:
    """Name, action space and views are valid."""
    missing = [member for member in MEMBERS if not hasattr(case.policy, member)]
    if missing:
        raise Broken(f"expected all of failsafe.policies.contract.Policy, missing: {', '.join(missing)}")
    name, space, views = case.policy.name, case.policy.action_space, case.policy.views
    if not name.strip() or name != name.strip() or "\n" in name:
        raise Broken(f"expected a name of one line, got {name!r}")
    if not isinstance(space, ActionSpace):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise Broken(f"expected an ActionSpace, got {type(space).__name__}")
    for view, size in views.items():
        if type(view) is not str or not view.strip() or type(size) is not int or size < 1:
            raise Broken(f"expected names of views and sizes in pixels, got {view!r}: {size!r}")
    seen = ", ".join(f"{view} {size} px" for view, size in views.items())
    return f"{name}: {seen or 'no views'}; {space.chunk} actions at {space.rate_hz:g} Hz, {space.frame.value}"


def an_answer_is_a_chunk(case: Subject) -> str:
    """`act` returns 1 to `chunk` rows of 7 finite numbers at every step."""
    _reset(case)
    rows = [len(_act(case, observe(case.policy, step))) for step in range(3)]
    return f"{', '.join(map(str, rows))} rows"


def the_actions_stay_within_reach(case: Subject) -> str:
    """No action commands a pose half a metre away, so its scale is the declared one."""
    _reset(case)
    longest = 0.0
    for step in range(3):
        observation = observe(case.policy, step)
        for row in _act(case, observation):
            pose, _ = case.policy.action_space.to_pose(row, observation.target_pose, observation.tcp_pose)
            metres, _ = poses.distance(observation.tcp_pose, pose)
            longest = max(longest, metres)
    if not longest <= REACH:
        raise Broken(f"expected actions of at most {REACH} m, got one of {longest:.3g} m")
    return f"at most {1000 * longest:.0f} mm"


def the_same_episode_gives_the_same_chunks(case: Subject) -> str:
    """After a reset, a chunk depends on the seed and the observations since the reset alone."""
    if not case.repeatable:
        return "not tried: the policy is declared random"
    first, again = _episode(case), _episode(case)
    for step, (a, b) in enumerate(zip(first, again, strict=True)):
        if not np.array_equal(a, b):
            off = float(np.abs(a - b).max()) if a.shape == b.shape else float("nan")
            raise Broken(f"expected the same chunk {step} of an episode, got one that differs by {off:.3g}")
    return f"{len(first)} chunks, twice"


def a_second_reset_does_no_harm(case: Subject) -> str:
    """A reset may follow a reset, with or without an action in between."""
    for _ in range(2):
        _reset(case)
        _reset(case)
        _act(case, observe(case.policy, 0))
    return "twice, with and without an action between them"


def it_goes_on_after_the_queue_is_dropped(case: Subject) -> str:
    """`drop_queue` may be called at any step, more than once, and `act` works after it."""
    _reset(case)
    for step in range(2):
        case.policy.drop_queue()
        case.policy.drop_queue()
        _act(case, observe(case.policy, step))
    return "before the first action and after it"


def an_unknown_instruction_is_a_chunk_or_a_refusal(case: Subject) -> str:
    """An unknown instruction gives a chunk or raises PolicyError, and no other exception."""
    refused, words = 0, ("", "sing the alphabet backwards", "立方体を持ち上げて " * 200)
    for instruction in words:
        try:
            _reset(case, instruction)
            _act(case, observe(case.policy, 0))
        except PolicyError:
            refused += 1
    _reset(case)
    _act(case, observe(case.policy, 0))
    return f"{refused} of {len(words)} refused, and the next episode went well"


def the_observation_is_left_alone(case: Subject) -> str:
    """The policy does not modify images and poses; they may be read-only."""
    _reset(case)
    seen, untouched = observe(case.policy, 0), observe(case.policy, 0)
    _act(case, seen)
    if not _same(seen, untouched):
        raise Broken("expected an unmodified observation, got one that the policy has changed")
    for array in (*seen.images.values(), seen.tcp_pose, seen.target_pose):
        array.flags.writeable = False
    _act(case, seen)
    return "writable and read-only"


def a_black_image_gives_a_chunk(case: Subject) -> str:
    """Black and white images do not raise an exception."""
    for brightness in (0, 255):
        _reset(case)
        seen = observe(case.policy, 0)
        images = {view: np.full_like(image, brightness) for view, image in seen.images.items()}
        _act(case, replace(seen, images=images))
    return "black and white"


RULES: tuple[Callable[[Subject], str], ...] = (
    the_name_and_the_spaces_are_sane,
    an_answer_is_a_chunk,
    the_actions_stay_within_reach,
    the_same_episode_gives_the_same_chunks,
    a_second_reset_does_no_harm,
    it_goes_on_after_the_queue_is_dropped,
    an_unknown_instruction_is_a_chunk_or_a_refusal,
    the_observation_is_left_alone,
    a_black_image_gives_a_chunk,
)
"""Every rule, in the order in which they are checked."""


def observe(policy: Policy, step: int) -> PolicyObservation:
    """Make an observation with exactly the views that a policy declares; the same for the same step.

    Args:
        policy: The policy.
        step: Number of the step; it seeds the images.
    """
    rng = np.random.default_rng(step)
    images: Mapping[str, UInt8[np.ndarray, "size size 3"]] = {
        view: rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for view, size in policy.views.items()
    }
    measured = poses.pose([0.01 * step, 0.0, 0.2], _DOWN)
    return PolicyObservation(images, measured, poses.pose([0.01 * step, 0.002, 0.198], _DOWN), 0.04)


def _reset(case: Subject, instruction: str | None = None) -> None:
    reset_policy(case.policy, case.instruction if instruction is None else instruction, _SEED)


def _act(case: Subject, observation: PolicyObservation) -> Float[np.ndarray, "H 7"]:
    chunk = case.policy.act(observation)
    try:
        return check_chunk(case.policy.name, chunk, case.policy.action_space.chunk)
    except PolicyError as error:
        raise Broken(str(error)) from error


def _episode(case: Subject) -> list[Float[np.ndarray, "H 7"]]:
    _reset(case)
    return [_act(case, observe(case.policy, step)).copy() for step in range(3)]


def _same(a: PolicyObservation, b: PolicyObservation) -> bool:
    return (
        a.images.keys() == b.images.keys()
        and all(np.array_equal(a.images[view], b.images[view]) for view in b.images)
        and np.array_equal(a.tcp_pose, b.tcp_pose)
        and np.array_equal(a.target_pose, b.target_pose)
    )
