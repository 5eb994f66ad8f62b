"""The rules of the contract, one function each. The docstring states the rule.

A rule returns a sentence with its measurement, or raises `Broken` with what was expected and measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from failsafe.errors import DivergedError, MissingRendererError, UnknownNameError
from failsafe.records import poses
from failsafe.records.trace import Disturbance
from failsafe.simulators.conformance.bench import CLOSED, OPEN, SEED, Bench, Broken, expect_same
from failsafe.simulators.contract import EpisodeSpec, Exactness, Observation, Role, Simulator

REACH_ERROR, REACH_ANGLE = 0.005, 0.05
"""Largest distance between the tool and a reached pose, metres and radians."""
RESTORE_ERROR = 0.001
"""Largest distance between a restored and the recorded position, metres."""
REACH_SECONDS = 3.0
"""Time in which a pose near the start must be reached."""
REST_SECONDS = 0.3
"""Time in which an object comes to rest after a reset."""
LEAST_MOTION, LEAST_TURN = 0.0005, 0.005
"""Least motion of an articulated part in one step with an imposed velocity, metres and radians."""
SLIDE_SECONDS = 0.6
"""Time without friction in which a held object must slide out of the grip."""


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
    if seen.gripper_width > robot.gripper_travel + RESTORE_ERROR:
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
    _check_observation(bench.simulator.observe(), count)
    for command in commands:
        bench.simulator.step(command)
        _check_observation(bench.simulator.observe(), count)
    return f"tool and {count} objects, over {len(commands)} steps"


def the_state_keeps_its_size(bench: Bench) -> str:
    """The state is a finite float32 vector of the same size in all episodes and steps."""
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
    """Equal seeds and commands give equal states, bit for bit, even after other episodes."""
    first = bench.play(bench.commands)
    for _ in range(2):
        bench.disturb_other_episodes()
        expect_same(first, bench.play(bench.commands), "after other episodes")
    name = bench.movable()
    moved = "no movable object"
    if name:
        end = bench.position(name)
        bench.simulator.reset(SEED)
        moved = f"'{name}' moved by {np.linalg.norm(end - bench.position(name)):.3f} m"
    return f"{len(bench.commands)} equal steps in three runs ({moved})"


def seeds_differ(bench: Bench) -> str:
    """Different seeds give different initial states, or place what is not part of the state differently."""
    starts: set[bytes] = set()
    for seed in range(5):
        state = bench.play([], seed)[0]
        starts.add(state.tobytes() + bench.simulator.observe().objects.tobytes())
    if len(starts) < 5:
        raise Broken(f"expected 5 initial states for 5 seeds, got {len(starts)}")
    return "5 seeds, 5 initial states"


def the_declared_exactness_holds(bench: Bench) -> str:
    """RESTORE: continuing from a restored state is exact. REPLAY: continuing after a replayed prefix is."""
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
            bench.play([*commands[:at], *commands[:5]])  # one branch from the prefix
            again = bench.play(commands)[at:]  # the other
        expect_same(states[at:], again, f"from step {at} on")
    return f"exact by {exactness.value} from 25%, 50% and 75% of the episode"


def objects_can_be_placed(bench: Bench) -> str:
    """`reset(objects=...)` places objects, for one episode only."""
    episode, tried = bench.simulator.episode, []
    before, seen = bench.play([])[0], bench.simulator.observe().objects
    for name in (*episode.names(Role.MOVABLE), *episode.names(Role.GOAL)):
        bench.simulator.reset(SEED)
        pose = bench.simulator.observe().objects[episode.object_index(name)].copy()
        pose[:3] += [0.031, -0.023, 0.0]
        bench.simulator.reset(SEED, {name: pose})
        off = float(np.linalg.norm(bench.position(name) - pose[:3]))
        if not off <= RESTORE_ERROR:
            raise Broken(f"expected '{name}' at the pose given to reset, got it {off:.4f} m away")
        tried.append(name)
    expect_same([before], bench.play([]), "in a reset without `objects` after one with them")
    # What is fixed or articulated may be placed by the model and not by the state.
    if not np.array_equal(again := bench.simulator.observe().objects, seen):
        moved = [o.name for o, a, b in zip(episode.objects, seen, again, strict=True) if (a != b).any()]
        raise Broken(
            f"expected all objects at their own poses in a reset without `objects` after one with them, got "
            f"{', '.join(moved)} elsewhere"
        )
    return ", ".join(tried) or "no object to place"


def commands_are_reached(bench: Bench) -> str:
    """A commanded pose is reached within 5 mm and 0.05 rad in 3 s."""
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
    target = robot.clip_to_workspace(poses.apply_delta(start, delta))
    bench.move_to(target, OPEN, REACH_SECONDS)
    metres, radians = poses.distance(bench.simulator.observe().tcp_pose, target)
    if metres > REACH_ERROR or (robot.controls_rotation and radians > REACH_ANGLE):
        raise Broken(
            f"expected the tool at the commanded pose, got it {metres:.4f} m and {radians:.3f} rad away"
        )
    return f"{metres * 1000:.2f} mm and {radians:.4f} rad off after {REACH_SECONDS:g} s"


def too_large_a_step_does_no_harm(bench: Bench) -> str:
    """The tool approaches a pose beyond the step limits or out of reach; the state stays finite."""
    bench.simulator.reset(SEED)
    start = bench.simulator.observe().tcp_pose
    for delta in ([0.3, 0.2, 0.0, 0.0, 0.0, 1.5], [5.0, 0.0, 0.0, 0.0, 0.0, 0.0]):
        target = poses.apply_delta(start, delta)
        for _ in range(5):
            before = bench.simulator.observe().tcp_pose
            try:
                bench.simulator.step(bench.simulator.command(target, OPEN))
            except DivergedError as error:
                raise Broken(
                    f"expected the tool to approach the pose, but the physics diverged ({error})"
                ) from error
            moved = float(np.linalg.norm(bench.simulator.observe().tcp_pose[:3] - before[:3]))
            if not (np.isfinite(bench.simulator.state()).all() and moved < 0.5):
                raise Broken(
                    f"expected a finite state and a smooth motion, got a jump of {moved:.3g} m in one step"
                )
    return "targets 0.36 m and 5 m away, with a finite state"


def a_forced_velocity_moves_the_object(bench: Bench) -> str:
    """`Disturbance.velocity` moves the object by velocity x time, despite gravity and contacts.

    An articulated part moves by the share of the velocity that its joint allows, away from its limits.
    """
    name = bench.movable()
    if not name:
        return "no movable object"
    episode, control_hz = bench.simulator.episode, bench.simulator.spec.embodiment.control_hz
    velocity = np.array([0.2, 0.1, 0.2])
    moved, expected = _forced(bench, name, velocity)[:3], velocity / control_hz
    if episode.objects[episode.object_index(name)].joint is not None:
        motions = {sign: _forced(bench, name, sign * velocity) for sign in (1.0, -1.0)}
        sign, motion = max(motions.items(), key=lambda item: float(np.linalg.norm(item[1])))
        moved, turned = motion[:3], float(np.linalg.norm(motion[3:]))
        metres = float(np.linalg.norm(moved))
        if metres < LEAST_MOTION and turned < LEAST_TURN:
            raise Broken(
                f"expected '{name}' to move along its joint, got {_mm(moved)} mm and {turned:.4f} rad"
            )
        if metres < LEAST_MOTION:
            return f"'{name}' turned by {turned:.3f} rad about an axis through its center"
        along = moved / metres
        expected = sign * float(velocity @ along) / control_hz * along
    if not np.linalg.norm(moved - expected) <= 0.2 * np.linalg.norm(expected):
        raise Broken(f"expected '{name}' to move by {_mm(expected)} mm in one step, got {_mm(moved)} mm")
    return f"'{name}' moved by {_mm(moved)} mm, {_mm(expected)} mm expected"


def friction_can_be_set(bench: Bench) -> str:
    """`Disturbance.friction` is applied: without friction, a held object slides out of the grip."""
    name = bench.movable()
    if not name:
        return "no movable object"
    bench.play(bench.lifting_commands)
    held, before = name in bench.simulator.held(), bench.position(name)
    hold = bench.simulator.command(bench.simulator.observe().tcp_pose, CLOSED)
    for friction in (2.0, *([0.0] * bench.steps(SLIDE_SECONDS))):
        bench.simulator.step(hold, [Disturbance(name, None, friction)])
    if not np.isfinite(bench.simulator.state()).all():
        raise Broken("expected a finite state after a change of friction, got NaN or infinity")
    fallen = float((before - bench.position(name))[2])
    if held and fallen < 0.01:
        raise Broken(f"expected '{name}' to slide out of the grip, got it {fallen:.4f} m lower")
    return f"'{name}' slid down by {fallen:.3f} m" if held else f"accepted; '{name}' was not held"


def a_velocity_with_the_tool_is_relative_to_it(bench: Bench) -> str:
    """With `Disturbance.with_tool` the velocity is relative to the tool."""
    name, simulator = bench.movable(), bench.simulator
    bench.play(bench.lifting_commands)
    if name not in simulator.held():
        return "not tested: nothing is held"
    tool = simulator.observe().tcp_pose
    before = bench.position(name) - tool[:3]
    control_hz, steps = simulator.spec.embodiment.control_hz, bench.steps(0.2)
    sinking = Disturbance(name, (0.0, 0.0, -0.05, 0.0, 0.0, 0.0), 0.0, with_tool=True)
    for step in range(steps):
        target = poses.apply_delta(tool, [0.0, 0.2 * (step + 1) / control_hz, 0.0, 0.0, 0.0, 0.0])
        simulator.step(simulator.command(target, CLOSED), [sinking])
    moved = bench.position(name) - simulator.observe().tcp_pose[:3] - before
    expected = np.array([0.0, 0.0, -0.05 * steps / control_hz])
    if not np.linalg.norm(moved - expected) <= 0.003:
        raise Broken(f"expected '{name}' to move by {_mm(expected)} mm in the grip, got {_mm(moved)} mm")
    return f"'{name}' moved by {_mm(moved)} mm in the grip, {_mm(expected)} mm expected"


def queries_change_nothing(bench: Bench) -> str:
    """`observe`, `state`, `held`, `evaluate` and `command` do not change the episode."""
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
        seen.tcp_pose[:], seen.objects[:] = 0.0, 0.0  # the caller may change what it received
        simulator.step(command)
        states.append(simulator.state())
    expect_same(undisturbed, states, "with queries in every step")
    if simulator.evaluate() != simulator.evaluate():
        raise Broken("expected the same evaluation of the same state twice, got two")
    return f"{len(bench.commands)} equal steps with and without queries"


def held_names_what_is_in_the_grip(bench: Bench) -> str:
    """`held` names movable objects only, and none at the start, where the gripper is open."""
    bench.simulator.reset(SEED)
    if bench.simulator.held():
        raise Broken(f"expected nothing to be held at the start, got {bench.simulator.held()}")
    known, seen = bench.simulator.episode.names(Role.MOVABLE), set[str]()
    for command in bench.commands:
        bench.simulator.step(command)
        seen.update(bench.simulator.held())
    if seen - set(known):
        raise Broken(f"expected names of movable objects, got {', '.join(sorted(seen - set(known)))}")
    return f"held: {', '.join(sorted(seen)) or 'nothing'}"


def a_restored_state_shows_the_same_scene(bench: Bench) -> str:
    """After `restore` all positions are within 1 mm of the recorded ones, whatever the exactness."""
    bench.simulator.reset(SEED)
    recorded: list[tuple[np.ndarray, Observation]] = []
    for command in bench.commands:
        bench.simulator.step(command)
        recorded.append((bench.simulator.state(), bench.simulator.observe()))
    for state, seen in recorded[::5]:
        bench.simulator.restore(state)
        now = bench.simulator.observe()
        pairs = [(now.tcp_pose, seen.tcp_pose), *zip(now.objects, seen.objects, strict=True)]
        off = max(float(np.linalg.norm(a[:3] - b[:3])) for a, b in pairs)
        turned = max(poses.distance(a, b)[1] for a, b in pairs)
        if not (off <= RESTORE_ERROR and turned <= 0.01):
            raise Broken(f"expected the recorded scene, got one that is {off:.4f} m and {turned:.3f} rad off")
    return f"{len(recorded[::5])} states of an episode"


def images_can_be_rendered(bench: Bench) -> str:
    """Every camera of the spec gives a square image with content. Rendering does not change the state."""
    simulator = bench.simulator
    cameras = [simulator.camera(name) for name in simulator.spec.cameras]
    if not cameras:
        return "no cameras"
    before = bench.play([])[0]
    try:
        images = simulator.render(cameras, 64)
    except MissingRendererError as error:
        return f"not tested: {error}"
    if images.shape != (len(cameras), 64, 64, 3) or images.dtype != np.uint8:
        raise Broken(f"expected uint8 [{len(cameras)}, 64, 64, 3], got {images.dtype} {list(images.shape)}")
    blank = [c.name for c, p in zip(cameras, images, strict=True) if p.min() == p.max()]
    if blank:
        raise Broken(f"expected images with content, got a single colour from {', '.join(blank)}")
    expect_same([before], [simulator.state()], "after rendering")
    if not np.array_equal(simulator.render(simulator.spec.cameras, 64), images):
        raise Broken("expected `render` to take the names of cameras as well, got other images for them")
    return ", ".join(simulator.spec.cameras)


def unknown_names_are_refused(bench: Bench) -> str:
    """An unknown camera or object raises UnknownNameError and is never ignored."""
    simulator, name = bench.simulator, "no such thing"
    simulator.reset(SEED)
    hold = simulator.command(simulator.observe().tcp_pose, OPEN)
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
        raise Broken(f"expected UnknownNameError from `{method}`, but `{method}` accepted the name")
    return "camera, step, reset"


def closing_twice_is_allowed(bench: Bench) -> str:
    """`close` may be called twice. This is the last rule, as the simulator is closed afterwards."""
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
    a_velocity_with_the_tool_is_relative_to_it,
    queries_change_nothing,
    held_names_what_is_in_the_grip,
    a_restored_state_shows_the_same_scene,
    images_can_be_rendered,
    unknown_names_are_refused,
    closing_twice_is_allowed,
)
"""All rules, in the order in which they are checked."""


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


def _check_observation(seen: Observation, count: int) -> None:
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


def _forced(bench: Bench, name: str, velocity: np.ndarray) -> np.ndarray:
    """Return how far an object at rest moves and turns in one step with an imposed velocity [6]."""
    simulator = bench.simulator
    simulator.reset(SEED)
    hold = simulator.command(simulator.observe().tcp_pose, OPEN)
    for _ in range(bench.steps(REST_SECONDS)):
        simulator.step(hold)
    row = simulator.episode.object_index(name)
    before = simulator.observe().objects[row].copy()
    simulator.step(hold, [Disturbance(name, (*velocity.tolist(), 0.0, 0.0, 0.0))])
    return poses.delta_between(before, simulator.observe().objects[row])


def _mm(vector: np.ndarray) -> list[float]:
    return np.round(1000.0 * vector, 2).tolist()
