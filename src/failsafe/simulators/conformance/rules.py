"""The rules of the contract, one function each: the docstring is the rule.

A rule returns what was seen, or raises `Broken` with which part of it is not kept and how far off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from failsafe.errors import DivergedError, MissingRendererError, UnknownNameError
from failsafe.records import poses
from failsafe.records.trace import Disturbance
from failsafe.simulators.conformance.bench import LIFTED, SEED, Bench, Broken, expect_same
from failsafe.simulators.contract import EpisodeSpec, Exactness, Observation, Role, Simulator

REACH_ERROR, REACH_ANGLE = 0.005, 0.05
"""How near the tool must come to a commanded pose, metres and radians."""
PICTURE_ERROR = 0.001
"""How well a restored state must agree with the recorded one, metres."""


def the_spec_is_sane(bench: Bench) -> str:
    """The contract is complete, sizes are positive, camera names unique, and the embodiment is consistent."""
    contract = [name for name in vars(Simulator) if not name.startswith("_")]
    missing = [name for name in contract if not hasattr(bench.simulator, name)]
    if missing:
        raise Broken(f"expected all of failsafe.simulators.contract.Simulator, missing: {', '.join(missing)}")
    spec = bench.simulator.spec
    if not spec.task:
        raise Broken("expected a task name, got an empty one")
    if spec.command_size < 1:
        raise Broken(f"expected command_size to be positive, got {spec.command_size}")
    _expect_unique("camera", spec.cameras)
    robot = spec.embodiment  # its constructor has checked rates, limits and the workspace box
    if not robot.robot:
        raise Broken("expected the name of the robot, got an empty one")
    if not math.isclose(math.hypot(*robot.tool_axis), 1.0, abs_tol=1e-6):
        raise Broken(f"expected tool_axis to be a unit vector, got {robot.tool_axis}")
    bench.simulator.reset(SEED)
    seen = bench.simulator.observe()
    if poses.distance(seen.tcp_pose, robot.clip_to_workspace(seen.tcp_pose))[0] > 0:
        raise Broken(
            f"expected the tool to start inside the workspace {robot.workspace_low} to "
            f"{robot.workspace_high}, got {seen.tcp_pose[:3].round(3).tolist()}"
        )
    if seen.gripper_width > robot.gripper_travel + PICTURE_ERROR:
        raise Broken(
            f"expected the gripper to open by at most gripper_travel = {robot.gripper_travel} m, "
            f"got {seen.gripper_width:.4f} m"
        )
    return f"{spec.task}: {robot.robot} at {robot.control_hz:g} Hz, exact by {spec.exactness.value}"


def a_reset_describes_the_episode(bench: Bench) -> str:
    """`reset` returns the `EpisodeSpec` that `episode` then has: complete, and the same for the same seed."""
    simulator = bench.simulator
    _reset(simulator, SEED + 1)
    episode = _reset(simulator, SEED)
    if not episode.instruction.strip():
        raise Broken("expected an instruction, got an empty one")
    names = [o.name for o in episode.objects]
    _expect_unique("object", names)
    for o in episode.objects:
        if not all(math.isfinite(h) and h >= 0 for h in o.half_extents):
            raise Broken(f"expected half extents of '{o.name}' in metres, got {o.half_extents}")
        if o.joint is not None and not o.joint.low <= o.joint.high:
            raise Broken(f"expected joint limits of '{o.name}' with low <= high, got {o.joint}")
    for goal in episode.goals:
        if unknown := [name for name in goal.arguments if name not in names]:
            raise Broken(f"expected goals about {', '.join(names)}, got {', '.join(unknown)}")
    if (found := len(simulator.observe().objects)) != len(names):
        raise Broken(f"expected {len(names)} objects in the observation, got {found}")
    bench.disturb_other_episodes()
    if (again := simulator.reset(SEED)) != episode:
        raise Broken(f"expected the same episode for the same seed, got {again} after {episode}")
    return f"'{episode.instruction}', {len(names)} objects"


def observations_have_their_shapes(bench: Bench) -> str:
    """Poses are finite, of the contract's shapes, with unit quaternions, in an episode with contacts."""
    count, commands = len(bench.simulator.episode.objects), bench.commands
    bench.simulator.reset(SEED)
    _look(bench.simulator.observe(), count)
    for command in commands:
        bench.simulator.step(command)
        _look(bench.simulator.observe(), count)
    return f"tool and {count} objects, over {len(commands)} steps"


def the_state_keeps_its_size(bench: Bench) -> str:
    """The state is a finite float32 vector of one size, in all episodes and all steps."""
    states = bench.play(bench.commands)
    for seed in (SEED + 1, SEED + 2):
        states += bench.play(bench.commands[:3], seed)
    for state in states:
        if state.dtype != np.float32 or state.ndim != 1:
            raise Broken(f"expected a float32 vector, got {state.dtype} of shape {state.shape}")
        if not np.isfinite(state).all():
            raise Broken("expected finite numbers, got NaN or infinity")
    sizes = sorted({len(state) for state in states})
    if len(sizes) != 1:
        raise Broken(f"expected one size, got {sizes}")
    if states[0] is states[1] or np.shares_memory(states[0], states[1]):
        raise Broken("expected a copy of the state, got memory that the next step overwrites")
    return f"{sizes[0]} numbers"


def a_reset_repeats_exactly(bench: Bench) -> str:
    """The same seed and commands give the same states, bit for bit, also after other episodes."""
    first = bench.play(bench.commands)
    for _ in range(2):
        bench.disturb_other_episodes()
        expect_same(first, bench.play(bench.commands), "after other episodes")
    name = bench.movable()
    moved = "no movable object"
    if name:
        end = bench.position(name)
        bench.simulator.reset(SEED)
        moved = f"'{name}' ended {np.linalg.norm(end - bench.position(name)):.3f} m from where it was"
    return f"three times {len(bench.commands)} steps alike ({moved})"


def seeds_differ(bench: Bench) -> str:
    """Different seeds give different initial states."""
    starts = {bench.play([], seed)[0].tobytes() for seed in range(5)}
    if len(starts) < 5:
        raise Broken(f"expected 5 initial states for 5 seeds, got {len(starts)}")
    return "5 seeds, 5 initial states"


def the_declared_exactness_holds(bench: Bench) -> str:
    """RESTORE: going on from a restored state is exact. REPLAY: going on after a replayed prefix is."""
    commands = bench.commands
    states = bench.play(commands)
    exactness = bench.simulator.spec.exactness
    for at in (len(commands) // 4, len(commands) // 2, 3 * len(commands) // 4):
        bench.disturb_other_episodes()
        if exactness is Exactness.RESTORE:
            bench.simulator.reset(SEED)
            bench.simulator.restore(states[at])
            again = bench.play(commands[at:], seed=None)
        else:
            bench.play([*commands[:at], *commands[:5]])  # one branch from there
            again = bench.play(commands)[at:]  # the other
        expect_same(states[at:], again, f"from step {at} on")
    return f"exact by {exactness.value} from a quarter, a half and three quarters of the episode on"


def objects_can_be_placed(bench: Bench) -> str:
    """`reset(objects=...)` puts objects where it is told, and does not outlast the episode."""
    episode, tried = bench.simulator.episode, []
    before = bench.play([])[0]
    for name in (*episode.names(Role.MOVABLE), *episode.names(Role.GOAL)):
        bench.simulator.reset(SEED)
        pose = bench.simulator.observe().objects[episode.object_index(name)].copy()
        pose[:3] += [0.031, -0.023, 0.0]
        bench.simulator.reset(SEED, {name: pose})
        off = float(np.linalg.norm(bench.position(name) - pose[:3]))
        if not off <= PICTURE_ERROR:
            raise Broken(f"expected '{name}' at the pose given to reset, got it {off:.4f} m away")
        tried.append(name)
    expect_same([before], bench.play([]), "in a reset without `objects` after one with them")
    return ", ".join(tried) or "no object to place"


def commands_are_reached(bench: Bench) -> str:
    """A commanded pose is reached within 5 mm and 0.05 rad once the tool has had time."""
    robot = bench.simulator.spec.embodiment
    bench.simulator.reset(SEED)
    start = bench.simulator.observe().tcp_pose
    delta = [
        0.02,
        -0.03,
        -0.02 if start[2] > 0.1 else 0.02,
        0.0,
        0.0,
        0.3 if robot.controls_rotation else 0.0,
    ]
    target = poses.apply_delta(start, delta)
    bench.lead(target, 1.0, 60)
    metres, radians = poses.distance(bench.simulator.observe().tcp_pose, target)
    if metres > REACH_ERROR or (robot.controls_rotation and radians > REACH_ANGLE):
        raise Broken(
            f"expected the tool at the commanded pose, got it {metres:.4f} m and {radians:.3f} rad away"
        )
    return f"{metres * 1000:.2f} mm and {radians:.4f} rad off after 60 steps"


def too_large_a_step_does_no_harm(bench: Bench) -> str:
    """A pose far beyond the step limits, or out of reach, is approached; the state stays finite."""
    bench.simulator.reset(SEED)
    start = bench.simulator.observe().tcp_pose
    for delta in ([0.3, 0.2, 0.0, 0.0, 0.0, 1.5], [5.0, 0.0, 0.0, 0.0, 0.0, 0.0]):
        target = poses.apply_delta(start, delta)
        for _ in range(5):
            before = bench.simulator.observe().tcp_pose
            try:
                bench.simulator.step(bench.simulator.command(target, 1.0))
            except DivergedError as error:
                raise Broken(
                    f"expected the tool to approach the pose, but the physics diverged ({error})"
                ) from error
            moved = float(np.linalg.norm(bench.simulator.observe().tcp_pose[:3] - before[:3]))
            if not (np.isfinite(bench.simulator.state()).all() and moved < 0.5):
                raise Broken(
                    f"expected a finite state and a tool that moves steadily, got a leap of {moved:.3g} m"
                )
    return "0.36 m at once, and 5 m, with a finite state"


def a_forced_velocity_moves_the_object(bench: Bench) -> str:
    """`Disturbance.velocity` moves the object by velocity x time, whatever gravity and contacts say."""
    name = bench.movable()
    if not name:
        return "no movable object"
    bench.simulator.reset(SEED)
    velocity = np.array([0.2, 0.1, 0.2])
    before = bench.position(name)
    hold = bench.simulator.command(bench.simulator.observe().tcp_pose, 1.0)
    bench.simulator.step(hold, [Disturbance(name, (*velocity.tolist(), 0.0, 0.0, 0.0))])
    moved, expected = bench.position(name) - before, velocity / bench.simulator.spec.embodiment.control_hz
    if not np.linalg.norm(moved - expected) <= 0.2 * np.linalg.norm(expected):
        raise Broken(f"expected '{name}' to move by {_mm(expected)} mm in one step, got {_mm(moved)} mm")
    return f"'{name}' moved by {_mm(moved)} mm, {_mm(expected)} mm expected"


def friction_can_be_set(bench: Bench) -> str:
    """`Disturbance.friction` is accepted, and an object in the grip slides out of it where there is none."""
    name = bench.movable()
    if not name:
        return "no movable object"
    bench.play(bench.commands[:LIFTED])
    held, before = name in bench.simulator.held(), bench.position(name)
    hold = bench.simulator.command(bench.simulator.observe().tcp_pose, -1.0)
    for friction in (2.0, *([0.0] * 12)):
        bench.simulator.step(hold, [Disturbance(name, None, friction)])
    if not np.isfinite(bench.simulator.state()).all():
        raise Broken("expected a finite state after a change of friction, got NaN or infinity")
    fallen = float((before - bench.position(name))[2])
    if held and fallen < 0.01:
        raise Broken(f"expected '{name}' to slide out of the grip, got it {fallen:.4f} m lower")
    return f"'{name}' slid down by {fallen:.3f} m" if held else f"accepted; '{name}' was not in the grip"


def a_velocity_with_the_tool_comes_on_top(bench: Bench) -> str:
    """With `Disturbance.with_tool` the tool carries the object along, and the velocity comes on top."""
    name, simulator = bench.movable(), bench.simulator
    bench.play(bench.commands[:LIFTED])
    if name not in simulator.held():
        return "nothing in the grip to try it on"
    tool = simulator.observe().tcp_pose
    before = bench.position(name) - tool[:3]
    steps, sinking = 4, Disturbance(name, (0.0, 0.0, -0.05, 0.0, 0.0, 0.0), 0.0, with_tool=True)
    for step in range(steps):
        target = poses.apply_delta(tool, [0.0, 0.01 * (step + 1), 0.0, 0.0, 0.0, 0.0])
        simulator.step(simulator.command(target, -1.0), [sinking])
    moved = bench.position(name) - simulator.observe().tcp_pose[:3] - before
    expected = np.array([0.0, 0.0, -0.05 * steps / simulator.spec.embodiment.control_hz])
    if not np.linalg.norm(moved - expected) <= 0.003:
        raise Broken(f"expected '{name}' to move by {_mm(expected)} mm in the grip, got {_mm(moved)} mm")
    return f"'{name}' moved by {_mm(moved)} mm in the grip, {_mm(expected)} mm expected"


def looking_changes_nothing(bench: Bench) -> str:
    """`observe`, `state`, `held`, `evaluate` and `command` leave the episode as it would be without them."""
    simulator = bench.simulator
    undisturbed = bench.play(bench.commands)
    simulator.reset(SEED)
    states = [simulator.state()]
    for command in bench.commands:
        seen = simulator.observe()
        simulator.evaluate()
        simulator.held()
        simulator.state()
        simulator.command(poses.apply_delta(seen.tcp_pose, [0.01, 0.0, 0.01, 0.0, 0.0, 0.0]), -1.0)
        seen.tcp_pose[:], seen.objects[:] = 0.0, 0.0  # what was handed out is the caller's
        simulator.step(command)
        states.append(simulator.state())
    expect_same(undisturbed, states, "when it was looked at in every step")
    if simulator.evaluate() != simulator.evaluate():
        raise Broken("expected the same judgement of the same moment twice, got two")
    return f"{len(bench.commands)} steps with and without"


def held_names_what_is_in_the_grip(bench: Bench) -> str:
    """`held` names movable objects only, and none while the gripper stands open at the start."""
    bench.simulator.reset(SEED)
    if bench.simulator.held():
        raise Broken(f"expected nothing in the grip at the start, got {bench.simulator.held()}")
    known, seen = bench.simulator.episode.names(Role.MOVABLE), set[str]()
    for command in bench.commands:
        bench.simulator.step(command)
        seen.update(bench.simulator.held())
    if seen - set(known):
        raise Broken(f"expected names of movable objects, got {', '.join(sorted(seen - set(known)))}")
    return f"seen in the grip: {', '.join(sorted(seen)) or 'nothing'}"


def a_restored_state_shows_the_same_scene(bench: Bench) -> str:
    """After `restore` everything is within 1 mm of where it was, however exact the simulator is."""
    bench.simulator.reset(SEED)
    moments: list[tuple[np.ndarray, Observation]] = []
    for command in bench.commands:
        bench.simulator.step(command)
        moments.append((bench.simulator.state(), bench.simulator.observe()))
    for state, seen in moments[::5]:
        bench.simulator.restore(state)
        now = bench.simulator.observe()
        pairs = [(now.tcp_pose, seen.tcp_pose), *zip(now.objects, seen.objects, strict=True)]
        off = max(float(np.linalg.norm(a[:3] - b[:3])) for a, b in pairs)
        turned = max(poses.distance(a, b)[1] for a, b in pairs)
        if not (off <= PICTURE_ERROR and turned <= 0.01):
            raise Broken(f"expected the recorded scene, got one that is {off:.4f} m and {turned:.3f} rad off")
    return f"{len(moments[::5])} moments of an episode"


def pictures_can_be_taken(bench: Bench) -> str:
    """Every camera of the spec gives a square picture that shows something, and leaves the state alone."""
    simulator = bench.simulator
    cameras = [simulator.camera(name) for name in simulator.spec.cameras]
    if not cameras:
        return "no cameras"
    before = bench.play([])[0]
    try:
        pictures = simulator.render(cameras, 64)
    except MissingRendererError as error:
        return f"not tried: {error}"
    if pictures.shape != (len(cameras), 64, 64, 3) or pictures.dtype != np.uint8:
        raise Broken(
            f"expected uint8 [{len(cameras)}, 64, 64, 3], got {pictures.dtype} {list(pictures.shape)}"
        )
    blank = [c.name for c, p in zip(cameras, pictures, strict=True) if p.min() == p.max()]
    if blank:
        raise Broken(f"expected pictures of something, got one colour from {', '.join(blank)}")
    expect_same([before], [simulator.state()], "after taking pictures")
    return ", ".join(simulator.spec.cameras)


def unknown_names_are_refused(bench: Bench) -> str:
    """A camera or object that does not exist raises UnknownNameError, and is never passed over."""
    simulator, name = bench.simulator, "no such thing"
    simulator.reset(SEED)
    hold = simulator.command(simulator.observe().tcp_pose, 1.0)
    attempts: Sequence[tuple[str, Callable[[], object]]] = (
        ("camera", lambda: simulator.camera(name)),
        ("step", lambda: simulator.step(hold, [Disturbance(name, (0.0,) * 6)])),
        ("reset", lambda: simulator.reset(SEED, {name: poses.IDENTITY.copy()})),
    )
    for method, attempt in attempts:
        try:
            attempt()
        except UnknownNameError:
            continue
        except Exception as error:
            raise Broken(f"expected UnknownNameError from `{method}`, got {type(error).__name__}") from error
        raise Broken(f"expected UnknownNameError from `{method}`, but the name was accepted")
    return "camera, step, reset"


def closing_twice_is_allowed(bench: Bench) -> str:
    """`close` may be called again. The last rule: nothing can be tried after it."""
    bench.simulator.close()
    bench.simulator.close()
    return "a second call does nothing"


RULES: tuple[Callable[[Bench], str], ...] = (
    the_spec_is_sane,
    a_reset_describes_the_episode,
    observations_have_their_shapes,
    the_state_keeps_its_size,
    a_reset_repeats_exactly,
    seeds_differ,
    the_declared_exactness_holds,
    objects_can_be_placed,
    commands_are_reached,
    too_large_a_step_does_no_harm,
    a_forced_velocity_moves_the_object,
    friction_can_be_set,
    a_velocity_with_the_tool_comes_on_top,
    looking_changes_nothing,
    held_names_what_is_in_the_grip,
    a_restored_state_shows_the_same_scene,
    pictures_can_be_taken,
    unknown_names_are_refused,
    closing_twice_is_allowed,
)
"""Every rule, in the order in which they are tried."""


def _reset(simulator: Simulator, seed: int) -> EpisodeSpec:
    """Reset and check what is returned."""
    episode = simulator.reset(seed)
    if not isinstance(cast(object, episode), EpisodeSpec):
        raise Broken(f"expected reset to return an EpisodeSpec, got {type(episode).__name__}")
    if episode.seed != seed:
        raise Broken(f"expected the episode of seed {seed}, got that of seed {episode.seed}")
    if simulator.episode != episode:
        raise Broken("expected `episode` to be what reset returned, got another")
    return episode


def _expect_unique(kind: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise Broken(f"expected {kind} names to be unique, got {', '.join(names)}")


def _look(seen: Observation, count: int) -> None:
    for what, got, shape in (("tcp_pose", seen.tcp_pose, (7,)), ("objects", seen.objects, (count, 7))):
        if got.shape != shape:
            raise Broken(f"expected {what} of shape {shape}, got {got.shape}")
        if not np.isfinite(got).all():
            raise Broken(f"expected finite numbers in {what}, got NaN or infinity")
        norms = np.linalg.norm(got[..., 3:], axis=-1)
        if not np.allclose(norms, 1.0, atol=1e-3):
            raise Broken(f"expected unit quaternions in {what}, got lengths {np.round(norms, 4).tolist()}")
    if not 0.0 <= seen.gripper_width < 1.0:
        raise Broken(f"expected the gripper's opening in metres, got {seen.gripper_width}")


def _mm(vector: np.ndarray) -> list[float]:
    return np.round(1000.0 * vector, 2).tolist()
