import re
import sys
import traceback

import numpy as np
import pytest
from tests.policies.act_server import ActServer
from tests.policies.made_up import make_observation
from tests.policies.websocket_server import WebsocketServer

from failsafe.errors import UnknownNameError, UserError
from failsafe.policies import reference
from failsafe.policies.contract import ActionSpace, Anchor, Frame, RotationFormat
from failsafe.policies.loading import load_policy, policy_fingerprint
from failsafe.policies.openpi import OpenpiPolicy
from failsafe.policies.openvla import BRIDGE, LIBERO_OFT, OpenVlaOftPolicy, OpenVlaPolicy
from failsafe.policies.served import LIBERO
from failsafe.sources import fingerprint_of_module


class Own:
    """A policy of one's own, as in `python:tests.policies.test_loading:Own`."""

    name, action_space, views = "own", ActionSpace(), {}

    def reset(self, instruction):
        pass

    def act(self, observation):
        return np.zeros((1, 7))

    def drop_queue(self):
        pass


class Half:
    name = "half"

    def reset(self, instruction):
        pass


class Needy(Own):
    def __init__(self, path):
        pass


NUMBER = 7


@pytest.mark.parametrize(
    ("name", "kind", "space", "views"),
    [
        ("openvla://127.0.0.1:8000", OpenVlaPolicy, BRIDGE, {"front": 224}),
        ("openvla-oft://127.0.0.1:8777", OpenVlaOftPolicy, LIBERO_OFT, {"front": 224, "hand": 224}),
        ("openpi://127.0.0.1:8000", OpenpiPolicy, LIBERO, {"front": 224, "hand": 224}),
        ("ws://127.0.0.1:8000", OpenpiPolicy, LIBERO, {"front": 224, "hand": 224}),
        ("wss://127.0.0.1:8000", OpenpiPolicy, LIBERO, {"front": 224, "hand": 224}),
        ("openvla://[::1]:8000", OpenVlaPolicy, BRIDGE, {"front": 224}),
    ],
)
def test_served_policies(name, kind, space, views):
    policy = load_policy(name)
    assert type(policy) is kind
    assert (policy.action_space, dict(policy.views)) == (space, views)
    policy.close()


def test_an_action_space_of_ones_own():
    policy = load_policy(
        "openvla-oft://127.0.0.1:8777?rate_hz=20&translation_scale=0.025&rotation_scale=1&frame=tcp"
        "&rotation=euler_xyz&anchor=target&gripper_open=-1&gripper_closed=1&chunk=4"
    )
    assert policy.action_space == ActionSpace(
        frame=Frame.TOOL,
        rotation=RotationFormat.EULER,
        anchor=Anchor.TARGET,
        translation_scale=0.025,
        rotation_scale=1.0,
        gripper_open=-1.0,
        gripper_closed=1.0,
        rate_hz=20.0,
        chunk=4,
    )
    policy.close()


def test_what_is_not_said_is_the_default():
    policy = load_policy("openpi://127.0.0.1:8000?chunk=10")
    assert (policy.action_space.chunk, policy.action_space.translation_scale) == (10, 0.05)


def test_pictures_and_settings_of_ones_own():
    policy = load_policy(
        "openpi://127.0.0.1:8000?observation/image=side&observation/wrist_image=&size=96&name=mine"
    )
    assert (dict(policy.views), policy.name) == ({"side": 96}, "mine")


def test_settings_reach_the_server():
    with ActServer(lambda payload: np.zeros(7)) as server:
        name = server.url.replace("http", "openvla") + "?unnorm_key=bridge_orig&double_encode=true&image=hand"
        policy = load_policy(name)
        policy.reset("pick up the red cube")
        seen = make_observation()
        policy.act(seen)
        policy.close()
        (payload,) = server.payloads
    assert b'"encoded"' in server.bodies[0]
    assert payload["unnorm_key"] == "bridge_orig"
    np.testing.assert_array_equal(payload["image"], seen.images["hand"])


def test_reference_policies(monkeypatch):
    asked = []
    monkeypatch.setattr(reference, "load_reference", lambda strength: asked.append(strength) or Own())
    assert load_policy("reference:weak").name == "own"
    assert asked == ["weak"]
    monkeypatch.undo()
    with pytest.raises(UnknownNameError, match="'wek': did you mean 'weak'"):
        load_policy("reference:wek")


def test_a_policy_is_known_by_its_weights_where_they_are_here(tmp_path):
    shipped = {policy_fingerprint(f"reference:{name}") for name in reference.SHIPPED}
    assert len(shipped) == len(reference.SHIPPED)
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes((reference.CHECKPOINTS / "weak.safetensors").read_bytes())
    assert policy_fingerprint(f"reference:{copy}") == policy_fingerprint("reference:weak") != ""
    assert policy_fingerprint("openpi://127.0.0.1:8000") == ""
    source = fingerprint_of_module(__name__)
    assert len(source) == 64
    assert policy_fingerprint(f"python:{__name__}:Own") == policy_fingerprint(f"{__name__}:Own") == source
    assert policy_fingerprint(Own()) == f"python:{__name__}.Own {source}"


def test_a_class_of_ones_own():
    assert load_policy(f"python:{__name__}:Own").name == load_policy(f"{__name__}:Own").name == "own"
    policy = Own()
    assert load_policy(policy) is policy


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("strong", "expected a policy such as reference:weak"),
        ("", "expected a policy such as"),
        ("openvla", "expected a policy such as"),
        ("openvla:127.0.0.1:8000", "expected a policy such as"),
        ("http://127.0.0.1:8000", "expected the name of a policy or MODULE:ATTRIBUTE"),
        ("openvla://", "expected openvla://HOST:PORT"),
        ("openvla://127.0.0.1:0", "expected openvla://HOST:PORT"),
        ("openvla://:8000", "expected openvla://HOST:PORT"),
        ("openvla://127.0.0.1:port", "expected openvla://HOST:PORT"),
        ("openvla://me:secret@127.0.0.1:8000", "expected openvla://HOST:PORT"),
        ("openvla://127.0.0.1:8000?chunk", "expected openvla://HOST:PORT"),
        (
            "openvla://127.0.0.1:8000?chunk=1&chunk=2",
            "expected each key of openvla://HOST:PORT?KEY=VALUE once, got chunk",
        ),
        ("openvla://127.0.0.1:8000?chunks=1", "unknown key of openvla 'chunks': did you mean 'chunk'?"),
        ("openpi://127.0.0.1:8000?unnorm_key=a", "unknown key of openpi 'unnorm_key'"),
        ("openpi://127.0.0.1:8000?api_key=a", "unknown key of openpi 'api_key'"),
        ("openpi://127.0.0.1:8000?url=a", "unknown key of openpi 'url'"),
        ("openvla://127.0.0.1:8000?rate_hz=fast", "expected a number for rate_hz, got 'fast'"),
        ("openvla://127.0.0.1:8000?chunk=1.5", "expected a number for chunk, got '1.5'"),
        ("openvla://127.0.0.1:8000?double_encode=1", "expected true or false for double_encode, got '1'"),
        ("openvla://127.0.0.1:8000?rate_hz=nan", "expected a translation scale and a rate above 0"),
        ("openvla://127.0.0.1:8000?gripper_open=0", "expected two numbers for the gripper"),
        ("openvla://127.0.0.1:8000?timeout=0", "expected timeout above 0"),
        ("openvla://127.0.0.1:8000?size=0", "expected at least one image, of 1 pixel or more"),
        ("openvla://127.0.0.1:8000?image=", "expected at least one image"),
        (
            "openvla://127.0.0.1:8000?frame=robot",
            "unknown value of frame 'robot': did you mean 'robot_base'?",
        ),
        ("python:Own", "expected python:MODULE:CLASS"),
        ("python:", "expected python:MODULE:CLASS"),
        ("python::Own", "Empty module name"),
        ("python:no_such_module:Own", "No module named 'no_such_module'"),
        (f"python:{__name__}:Nobody", "has no attribute 'Nobody'"),
        (f"{__name__}:NUMBER", "7 is not a callable object"),
        (f"python:{__name__}:Needy", "made without arguments"),
        (f"python:{__name__}:Half", "missing: act, action_space, drop_queue, views"),
    ],
)
def test_names_that_are_none(name, words):
    with pytest.raises(UserError, match=re.escape(words)):
        load_policy(name)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("wss://policy.example", "wss://policy.example"),
        ("wss://policy.example/robots/7", "wss://policy.example/robots/7"),
        ("ws://127.0.0.1", "ws://127.0.0.1"),
        ("openpi://policy.example", "ws://policy.example"),
        ("openvla+https://policy.example", "https://policy.example"),
        ("openvla-oft+https://policy.example:8443?chunk=4", "https://policy.example:8443"),
    ],
)
def test_addresses_that_the_servers_own_clients_take(name, url):
    policy = load_policy(name)
    assert policy.url == url
    policy.close()


def test_the_address_may_end_in_act():
    with ActServer(lambda payload: np.zeros(7)) as server:  # it answers /act alone
        for address in (server.url, server.url + "/", server.url + "/act"):
            policy = load_policy(address.replace("http", "openvla"))
            policy.reset("pick up the red cube")
            policy.act(make_observation())
            policy.close()


def test_the_key_of_openpi_is_read_from_the_environment(monkeypatch):
    with WebsocketServer(lambda observation: {"actions": np.zeros((10, 7))}) as server:
        for key in ("", "sesame\r\n"):
            monkeypatch.setenv("FAILSAFE_OPENPI_API_KEY", key)
            policy = load_policy(server.url)
            policy.reset("pick up the red cube")
            policy.close()
            assert "sesame" not in repr(policy)
    assert [headers.get("Authorization") for headers in server.headers] == [None, "Api-Key sesame"]


@pytest.mark.parametrize("key", ["open\nsesame", "open sesame", "öffne", "sesame\x7f", "\x1b[31msesame"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(key, monkeypatch):
    monkeypatch.setenv("FAILSAFE_OPENPI_API_KEY", key)
    with pytest.raises(UserError, match="FAILSAFE_OPENPI_API_KEY to be a key of printable ASCII") as raised:
        load_policy("ws://127.0.0.1:8000")
    shown = "".join(traceback.format_exception(raised.value))
    assert "sesame" not in shown
    assert "ffne" not in shown


@pytest.mark.parametrize(
    "name",
    [
        "ws://me:sesame@127.0.0.1:8000",
        "openvla://sesame@127.0.0.1:8000?chunk=2",
        "openvla://127.0.0.1:port?api_key=sesame",
        "openvla://127.0.0.1:8000?api_key=sesame&api_key=sesame",
        "openvla://127.0.0.1:8000?sesame",
        "openvla://127.0.0.1:8000?api_key=sesame#here",
        "openvla://127.0.0.1:8000?api_key=sesame",
    ],
)
def test_no_part_of_an_address_that_may_be_a_secret_is_shown(name):
    with pytest.raises(UserError) as raised:
        load_policy(name)
    assert "sesame" not in str(raised.value)
    with pytest.raises(UserError) as raised:
        OpenVlaPolicy("http://me:sesame@127.0.0.1:8000")
    assert "sesame" not in str(raised.value)


def test_what_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "websockets", None)
    for module in [m for m in sys.modules if m.startswith(("websockets.", "failsafe.policies.openpi"))]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(UserError, match=re.escape("pip install 'failsafe-vla[servers]'")):
        load_policy("openpi://127.0.0.1:8000")
