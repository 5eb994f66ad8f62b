"""The suite passes what is right, and names the rule that a broken policy does not keep."""

import numpy as np
import pytest
from tests.policies.act_server import ActServer
from tests.policies.websocket_server import WebsocketServer

from failsafe.errors import PolicyError
from failsafe.policies.conformance import RULES, check_policy, observe
from failsafe.policies.contract import ActionSpace
from failsafe.policies.openpi import OpenpiPolicy
from failsafe.policies.openvla import OpenVlaOftPolicy, OpenVlaPolicy

WORDS = "pick up the red cube"


class Sound:
    """Keeps every rule, with a queue of its own; each policy below breaks one."""

    def __init__(self):
        self.instruction, self.steps = "", 0

    @property
    def name(self):
        return "sound"

    @property
    def action_space(self):
        return ActionSpace(chunk=2)

    @property
    def views(self):
        return {"front": 16, "hand": 8}

    def reset(self, instruction):
        if instruction != WORDS:
            raise PolicyError(f"expected '{WORDS}', got '{instruction}'")
        self.instruction, self.steps = instruction, 0

    def act(self, observation):
        assert observation.images["hand"].shape == (8, 8, 3)
        self.steps += 1
        return np.full((2, 7), 0.001 * self.steps + 1e-5 * observation.images["front"].mean())

    def drop_queue(self):
        pass


class NoName(Sound):
    name = " two\nlines"


class NoSpace(Sound):
    action_space = None


class NoSize(Sound):
    @property
    def views(self):
        return {"front": 0, "hand": 8}


class TooManyRows(Sound):
    def act(self, observation):
        return np.zeros((3, 7))


class SixNumbers(Sound):
    def act(self, observation):
        return np.zeros((2, 6))


class NotANumber(Sound):
    def act(self, observation):
        return np.full((2, 7), np.nan)


class Words(Sound):
    def act(self, observation):
        return [["0.0"] * 7]


class GivesUp(Sound):
    def act(self, observation):
        chunk = super().act(observation)
        if self.steps == 3:
            raise RuntimeError("out of ideas")
        return chunk


class FarAway(Sound):
    def act(self, observation):
        return 1000.0 * super().act(observation)


class NeverForgets(Sound):
    def reset(self, instruction):
        if instruction != WORDS:
            raise PolicyError("no")


class Dice(Sound):
    rng = np.random.default_rng(0)

    def act(self, observation):
        return self.rng.random((2, 7)) / 10


class OnlyOnce(Sound):
    fresh = True

    def reset(self, instruction):
        super().reset(instruction)
        if not self.fresh:
            raise RuntimeError("there is an episode already")
        self.fresh = False

    def act(self, observation):
        self.fresh = True
        return super().act(observation)


class LosesItsHead(Sound):
    def drop_queue(self):
        self.steps = np.nan


class Startled(Sound):
    def reset(self, instruction):
        self.instruction = {WORDS: WORDS}[instruction]
        self.steps = 0


class StaysStartled(Sound):
    def reset(self, instruction):
        self.shy = getattr(self, "shy", False) or instruction != WORDS
        if self.shy:
            raise PolicyError("not after that")
        super().reset(instruction)


class Scribbles(Sound):
    def act(self, observation):
        chunk = super().act(observation)
        observation.images["front"][0, 0] = 0
        return chunk


class MovesTheTool(Sound):
    def act(self, observation):
        observation.target_pose[:] = observation.tcp_pose
        return super().act(observation)


class WantsToWrite(Sound):
    def act(self, observation):
        observation.images["front"].flags.writeable = True
        if not observation.tcp_pose.flags.writeable:
            raise ValueError("read-only")
        return super().act(observation)


class AfraidOfTheDark(Sound):
    def act(self, observation):
        if not observation.images["front"].any():
            raise RuntimeError("dark")
        return super().act(observation)


class Glares(Sound):
    def act(self, observation):
        bright = observation.images["front"].min() == 255
        return np.full((2, 7), np.inf) if bright else super().act(observation)


def broken_rules(policy, **options):
    return [check.name for check in check_policy(policy, WORDS, **options) if not check.passed]


def test_a_sound_policy_conforms():
    checks = check_policy(Sound(), WORDS)
    assert [check for check in checks if not check.passed] == []
    assert len(checks) == len(RULES)
    assert all(check.sentence for check in checks)
    assert checks[0].sentence == "sound: front 16 px, hand 8 px; 2 actions at 20 Hz, robot_base"


def test_every_rule_says_what_it_is():
    assert all((rule.__doc__ or "").strip() for rule in RULES)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (NoName, "the name and the spaces are sane"),
        (NoSize, "the name and the spaces are sane"),
        (NoSpace, "the name and the spaces are sane"),
        (TooManyRows, "an answer is a chunk"),
        (SixNumbers, "an answer is a chunk"),
        (NotANumber, "an answer is a chunk"),
        (Words, "an answer is a chunk"),
        (GivesUp, "an answer is a chunk"),
        (FarAway, "the actions stay within reach"),
        (NeverForgets, "the same episode gives the same chunks"),
        (Dice, "the same episode gives the same chunks"),
        (OnlyOnce, "a second reset does no harm"),
        (LosesItsHead, "it goes on after the queue is dropped"),
        (Startled, "an unknown instruction is a chunk or a refusal"),
        (StaysStartled, "an unknown instruction is a chunk or a refusal"),
        (Scribbles, "the observation is left alone"),
        (MovesTheTool, "the observation is left alone"),
        (WantsToWrite, "the observation is left alone"),
        (AfraidOfTheDark, "a black image gives a chunk"),
        (Glares, "a black image gives a chunk"),
    ],
)
def test_a_broken_rule_is_found(kind, rule):
    assert rule in broken_rules(kind())


@pytest.mark.parametrize("kind", [FarAway, Dice, LosesItsHead, Startled, Scribbles, AfraidOfTheDark])
def test_no_other_rule_is_blamed(kind):
    assert len(broken_rules(kind())) == 1


def test_a_policy_that_samples_is_not_held_to_its_word():
    assert broken_rules(Dice(), repeatable=False) == []


class Seeded(Dice):
    def reset(self, instruction, seed):
        super().reset(instruction)
        self.rng = np.random.default_rng(seed)


def test_a_policy_that_samples_from_the_seed_is_repeatable():
    assert broken_rules(Seeded()) == []


def test_a_list_of_tensors_is_a_chunk():
    torch = pytest.importorskip("torch")

    class Tensors(Sound):
        def act(self, observation):
            return list(torch.from_numpy(super().act(observation)).requires_grad_())

    assert broken_rules(Tensors()) == []


def test_observations_are_the_same_for_the_same_moment():
    first, again, other = (observe(Sound(), moment) for moment in (0, 0, 1))
    assert list(first.images) == ["front", "hand"]
    np.testing.assert_array_equal(first.images["front"], again.images["front"])
    assert (first.images["front"] != other.images["front"]).any()


def test_clients_of_servers_conform():
    def look(payload):
        return np.full(7, 1e-4 * next(v for v in payload.values() if isinstance(v, np.ndarray)).mean())

    with ActServer(look) as server:
        policy = OpenVlaPolicy(server.url, size=32)
        assert broken_rules(policy) == []
        policy.close()
        server.reply = lambda payload: [look(payload)] * 8
        policy = OpenVlaOftPolicy(server.url, size=32)
        assert broken_rules(policy) == []
        policy.close()
    with WebsocketServer(lambda seen: {"actions": np.tile(look(seen), (10, 1))}) as server:
        policy = OpenpiPolicy(server.url, size=32)
        assert broken_rules(policy) == []
        policy.close()
