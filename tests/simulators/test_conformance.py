"""The conformance suite passes what is right, and names the rule that a broken simulator does not keep."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from failsafe.errors import DivergedError
from failsafe.records.trace import Disturbance
from failsafe.simulators.conformance import Report, check_simulator
from failsafe.simulators.conformance.bench import Bench, Broken
from failsafe.simulators.conformance.rules import RULES
from failsafe.simulators.contract import Camera, EpisodeSpec, Exactness, GoalPredicate, Observation
from failsafe.simulators.toy import TASKS, ToyPick


def finding(report: Report, name: str) -> str:
    return next(check.sentence for check in report.checks if check.name == name)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_the_toy_conforms(name):
    report = check_simulator(TASKS[name])
    assert report.failed == ()
    assert report.passed
    assert report.task == name
    assert len(report.checks) == len(RULES)
    assert all(check.sentence for check in report.checks)


def test_the_toy_conforms_to_replay_as_well():
    report = check_simulator(ReplayOnly)
    assert report.passed
    assert finding(report, "the declared exactness holds").startswith("exact by replay")


def test_every_rule_says_what_it_is():
    assert all((rule.__doc__ or "").strip() for rule in RULES)


class ReplayOnly(ToyPick):
    def __init__(self) -> None:
        super().__init__()
        self._spec = dataclasses.replace(self._spec, exactness=Exactness.REPLAY)


class RemembersThePast(ToyPick):
    """Like an engine whose scene keeps hidden state over resets."""

    def __init__(self) -> None:
        self.episodes = 0
        super().__init__()

    def reset(self, seed: int, objects: Mapping[str, np.ndarray] | None = None) -> EpisodeSpec:
        self.episodes += 1
        return super().reset(seed, objects)

    def step(self, command: np.ndarray, disturbances: Sequence[Disturbance] = ()) -> None:
        if self.held():
            command = command + np.float32(1e-6 * self.episodes)
        super().step(command, disturbances)


class RestoresOnlyWhatIsSeen(ToyPick):
    """Leaves velocities and the grip out, but says that it restores exactly."""

    def restore(self, state: np.ndarray) -> None:
        kept = state.copy()
        kept[15:23] = 0.0
        super().restore(kept)


class IgnoresThePlaces(ToyPick):
    def reset(self, seed: int, objects: Mapping[str, np.ndarray] | None = None) -> EpisodeSpec:
        return super().reset(seed, None)


class PlacesForEver(ToyPick):
    placed: Mapping[str, np.ndarray] | None = None

    def reset(self, seed: int, objects: Mapping[str, np.ndarray] | None = None) -> EpisodeSpec:
        self.placed = objects or self.placed
        return super().reset(seed, self.placed)


class AlwaysTheSameScene(ToyPick):
    def reset(self, seed: int, objects: Mapping[str, np.ndarray] | None = None) -> EpisodeSpec:
        return super().reset(0, objects)


class LeadsAstray(ToyPick):
    def command(self, target: np.ndarray, gripper: float) -> np.ndarray:
        return super().command(target + np.array([0.0, 0.0, 0.008, 0.0, 0.0, 0.0, 0.0]), gripper)


class TurnsTheOtherWay(ToyPick):
    """Like an engine whose controller takes the rotation with the other sign."""

    def command(self, target: np.ndarray, gripper: float) -> np.ndarray:
        return super().command(target * np.array([1.0, 1.0, 1.0, 1.0, 1.0, -1.0, 1.0]), gripper)


class DivergesOnLargeSteps(ToyPick):
    def step(self, command: np.ndarray, disturbances: Sequence[Disturbance] = ()) -> None:
        if np.linalg.norm(command[:3] - self.observe().tcp_pose[:3]) > 0.2:
            raise DivergedError("the physics diverged")
        super().step(command, disturbances)


class IgnoresForcedVelocity(ToyPick):
    def step(self, command: np.ndarray, disturbances: Sequence[Disturbance] = ()) -> None:
        super().step(command, [dataclasses.replace(d, velocity=None) for d in disturbances])


class ForcesInTheWorldAlone(ToyPick):
    def step(self, command: np.ndarray, disturbances: Sequence[Disturbance] = ()) -> None:
        super().step(command, [dataclasses.replace(d, with_tool=False) for d in disturbances])


class IgnoresFriction(ToyPick):
    def step(self, command: np.ndarray, disturbances: Sequence[Disturbance] = ()) -> None:
        super().step(command, [dataclasses.replace(d, friction=None) for d in disturbances])


class JudgesByTouching(ToyPick):
    def evaluate(self):
        self._world.bodies[0].x += 1e-4
        return super().evaluate()


class HandsOutItsOwnMemory(ToyPick):
    _memory = np.zeros(30, dtype=np.float32)

    def state(self) -> np.ndarray:
        self._memory[:] = self._state
        return self._memory


class StateGrows(ToyPick):
    steps = 0

    def step(self, command: np.ndarray, disturbances: Sequence[Disturbance] = ()) -> None:
        super().step(command, disturbances)
        self.steps += 1

    def reset(self, seed: int, objects: Mapping[str, np.ndarray] | None = None) -> EpisodeSpec:
        self.steps = 0
        return super().reset(seed, objects)

    def state(self) -> np.ndarray:
        return np.concatenate([self._state, np.zeros(self.steps, dtype=np.float32)])

    def restore(self, state: np.ndarray) -> None:
        super().restore(state[:30])
        self.steps = len(state) - 30


class QuaternionsOfAnyLength(ToyPick):
    def observe(self) -> Observation:
        seen = super().observe()
        seen.objects[:, 3:] *= 1.5
        return seen


class HoldsAll(ToyPick):
    def held(self) -> tuple[str, ...]:
        return ("box", "goal")


class PassesOverUnknownNames(ToyPick):
    def camera(self, name: str) -> Camera:
        return super().camera(name if name in self.spec.cameras else "front")

    def step(self, command: np.ndarray, disturbances: Sequence[Disturbance] = ()) -> None:
        super().step(command, [d for d in disturbances if d.object == "box"])


class SeesNothing(ToyPick):
    def render(self, cameras: Sequence[str | Camera], size: int) -> np.ndarray:
        return np.zeros((len(cameras), size, size, 3), dtype=np.uint8)


class ClosesOnce(ToyPick):
    closed = False

    def close(self) -> None:
        if self.closed:
            raise RuntimeError("already closed")
        self.closed = True


class NamesNoRobot(ToyPick):
    def __init__(self) -> None:
        super().__init__()
        robot = dataclasses.replace(self._spec.embodiment, robot="")
        self._spec = dataclasses.replace(self._spec, embodiment=robot)


class StartsOutsideItsWorkspace(ToyPick):
    def __init__(self) -> None:
        super().__init__()
        robot = dataclasses.replace(self._spec.embodiment, workspace_low=(0.5, -0.6, 0.0))
        self._spec = dataclasses.replace(self._spec, embodiment=robot)


class OpensWiderThanItSays(ToyPick):
    def __init__(self) -> None:
        super().__init__()
        robot = dataclasses.replace(self._spec.embodiment, gripper_travel=0.05)
        self._spec = dataclasses.replace(self._spec, embodiment=robot)


class ReturnsNoEpisode(ToyPick):
    def reset(self, seed: int, objects: Mapping[str, np.ndarray] | None = None):
        super().reset(seed, objects)


class KeepsTheFirstEpisode(ToyPick):
    """Like an adapter that reads the instruction once."""

    first: EpisodeSpec | None = None

    @property
    def episode(self) -> EpisodeSpec:
        self.first = self.first or super().episode
        return self.first


class DrawsItsInstruction(ToyPick):
    """Like a suite that draws a paraphrase from a generator of its own."""

    def reset(self, seed: int, objects: Mapping[str, np.ndarray] | None = None) -> EpisodeSpec:
        self.count = getattr(self, "count", 0) + 1
        self._episode = dataclasses.replace(super().reset(seed, objects), instruction=f"pick, {self.count}")
        return self._episode


class AimsAtAnUnknownObject(ToyPick):
    def reset(self, seed: int, objects: Mapping[str, np.ndarray] | None = None) -> EpisodeSpec:
        goals = (GoalPredicate("on", ("box", "shelf")),)
        self._episode = dataclasses.replace(super().reset(seed, objects), goals=goals)
        return self._episode


class LeavesAnObjectOut(ToyPick):
    def reset(self, seed: int, objects: Mapping[str, np.ndarray] | None = None) -> EpisodeSpec:
        episode = super().reset(seed, objects)
        self._episode = dataclasses.replace(episode, objects=episode.objects[:1], goals=())
        return self._episode


@pytest.mark.parametrize(
    ("broken", "rule", "message"),
    [
        (NamesNoRobot, "the spec is sane", "expected the name of the robot, got an empty one"),
        (StartsOutsideItsWorkspace, "the spec is sane", "expected the tool to start inside the workspace"),
        (OpensWiderThanItSays, "the spec is sane", "gripper_travel = 0.05 m, got 0.0800 m"),
        (ReturnsNoEpisode, "a reset describes the episode", "to return an EpisodeSpec, got NoneType"),
        (
            KeepsTheFirstEpisode,
            "a reset describes the episode",
            "expected `episode` to be what reset returned",
        ),
        (DrawsItsInstruction, "a reset describes the episode", "expected the same episode for the same seed"),
        (AimsAtAnUnknownObject, "a reset describes the episode", "expected goals about box, goal, got shelf"),
        (LeavesAnObjectOut, "a reset describes the episode", "expected 1 objects in the observation, got 2"),
        (QuaternionsOfAnyLength, "observations have their shapes", "expected unit quaternions in objects"),
        (StateGrows, "the state keeps its size", "expected one size, got [30, 31,"),
        (HandsOutItsOwnMemory, "the state keeps its size", "memory that the next step overwrites"),
        (RemembersThePast, "a reset repeats exactly", "expected the same states after other episodes"),
        (AlwaysTheSameScene, "seeds differ", "expected 5 initial states for 5 seeds, got 1"),
        (RestoresOnlyWhatIsSeen, "the declared exactness holds", "expected the same states from step"),
        (
            IgnoresThePlaces,
            "objects can be placed",
            "expected 'box' at the pose given to reset, got it 0.0386",
        ),
        (PlacesForEver, "objects can be placed", "in a reset without `objects` after one with them"),
        (LeadsAstray, "commands are reached", "got it 0.0080 m and 0.000 rad away"),
        (TurnsTheOtherWay, "commands are reached", "m and 0.600 rad away"),
        (DivergesOnLargeSteps, "too large a step does no harm", "but the physics diverged"),
        (IgnoresForcedVelocity, "a forced velocity moves the object", "to move by [10.0, 5.0, 10.0] mm"),
        (IgnoresFriction, "friction can be set", "expected 'box' to slide out of the grip"),
        (ForcesInTheWorldAlone, "a velocity with the tool is relative to it", "mm in the grip, got"),
        (JudgesByTouching, "queries change nothing", "with queries in every step"),
        (HoldsAll, "held names what is in the grip", "expected nothing to be held at the start"),
        (SeesNothing, "images can be rendered", "got a single colour from front, side, hand"),
        (PassesOverUnknownNames, "unknown names are refused", "expected UnknownNameError from `camera`"),
        (ClosesOnce, "closing twice is allowed", "raised RuntimeError: already closed"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_broken_simulator_fails_the_rule_that_it_breaks(broken, rule, message):
    report = check_simulator(broken, [r for r in RULES if r.__name__ == rule.replace(" ", "_")])
    assert not report.passed
    assert report.failed == (rule,)
    assert message in report.checks[0].sentence


def test_one_broken_rule_leaves_the_others_standing():
    assert check_simulator(LeadsAstray).failed == ("commands are reached",)


def test_a_wrapper_that_lacks_a_method_is_told_which():
    class Half:
        def __init__(self) -> None:
            self._toy = ToyPick()

        def __getattr__(self, name: str):
            if name in ("held", "evaluate"):
                raise AttributeError(name)
            return getattr(self._toy, name)

    bench = Bench(ToyPick)
    bench.simulator = Half()
    with pytest.raises(Broken, match=r"Simulator, missing: held, evaluate$"):
        RULES[0](bench)
