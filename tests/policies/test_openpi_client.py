"""Our codecs against the packages that they are to agree with, openpi-client and json-numpy, to the byte.

openpi-client wants another NumPy than ours, so both live in an environment of their own, made once in the
cache folder of pytest. Needs a package index: `pytest -m network tests/policies`.
"""

import contextlib
import json
import socket
import subprocess
import threading
import venv

import numpy as np
import pytest
from tests.monitors.openpi_client import AT, INSTRUCTION, alarmed
from tests.policies.made_up import make_observation
from tests.policies.websocket_server import WebsocketServer

from failsafe.monitors.admission import Admission
from failsafe.monitors.proxy import Proxy, Upstream
from failsafe.monitors.requests import Wire, guard_clients
from failsafe.monitors.settings import MonitorSettings
from failsafe.policies import json_numpy, msgpack_numpy
from failsafe.policies.openpi import OpenpiPolicy

pytestmark = [pytest.mark.network, pytest.mark.slow]

# The last is for openpi-client, which does not declare it.
PACKAGES = ("openpi-client==0.1.2", "json-numpy==2.1.1", "typing-extensions==4.16.0")

BACK = """
import sys, json, json_numpy, numpy
from openpi_client import msgpack_numpy
asked = json.load(sys.stdin)
packed = msgpack_numpy.unpackb(bytes.fromhex(asked["msgpack"]))
plain = json_numpy.loads(asked["json"])
for found in (packed, plain):
    assert isinstance(found["image"], numpy.ndarray) and found["image"].dtype == numpy.uint8, found
    assert found["rows"].shape == (2, 7) and found["rows"].dtype == numpy.float32, found
print(json.dumps({"msgpack": msgpack_numpy.packb(packed).hex(), "json": json_numpy.dumps(plain)}))
"""

CLIENT = """
import sys, json, numpy
from openpi_client.websocket_client_policy import WebsocketClientPolicy
asked = json.load(sys.stdin)
policy = WebsocketClientPolicy("127.0.0.1", asked["port"])
rng = numpy.random.default_rng(0)
images = {view: rng.integers(0, 256, (224, 224, 3), dtype=numpy.uint8) for view in ("front", "hand")}
answer = policy.infer({
    "observation/image": images["front"],
    "observation/wrist_image": images["hand"],
    "observation/state": numpy.array(asked["state"]),
    "prompt": asked["prompt"],
})
print(json.dumps({"metadata": policy.get_server_metadata(), "actions": answer["actions"].tolist()}))
"""

GUARDED = """
import sys, json, time, numpy
from openpi_client.websocket_client_policy import WebsocketClientPolicy
asked = json.load(sys.stdin)
while True:  # as the client of openpi's repository does; its release does not
    try:
        policy = WebsocketClientPolicy("127.0.0.1", asked["port"], api_key=asked["key"])
        break
    except ConnectionRefusedError:
        time.sleep(0.5)
image = numpy.zeros((224, 224, 3), dtype=numpy.uint8)
answers = [
    policy.infer({
        "observation/image": image,
        "observation/wrist_image": image,
        "observation/state": numpy.array(asked["state"]),
        "prompt": asked["prompt"],
    })["actions"].tolist()
    for _ in range(2)
]
print(json.dumps({"metadata": policy.get_server_metadata(), "answers": answers}))
"""


@pytest.fixture(scope="module")
def theirs(request):
    """Runs a script where their packages are."""
    folder = request.config.cache.mkdir("openpi-client")
    python, stamp = folder / "bin" / "python", folder / "packages.json"
    if not stamp.exists() or json.loads(stamp.read_text()) != list(PACKAGES):
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True, timeout=600)
        stamp.write_text(json.dumps(PACKAGES))

    def run(script, asked):
        done = subprocess.run(
            [python, "-I", "-c", script],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_the_codecs_agree_to_the_byte(theirs):
    rng = np.random.default_rng(0)
    value = {
        "image": rng.integers(0, 256, (4, 5, 3), dtype=np.uint8),
        "rows": rng.standard_normal((2, 7)).astype(np.float32),
        "state": rng.standard_normal(8),
        "flags": np.array([True, False]),
        "small": np.arange(3, dtype=np.int16),
        "big-endian": np.arange(3, dtype=">f4"),
        "none": None,
        "words": "pick up the red cube",
        "nested": [{"number": 0.5, "whole": -7, "true": True}],
        "scalar": np.float32(0.1),
    }
    ours = {"msgpack": msgpack_numpy.packb(value).hex(), "json": json_numpy.dumps(value)}
    assert theirs(BACK, ours) == ours


def test_their_client_and_ours_send_the_same_message(theirs):
    seen = make_observation(0, views=("front", "hand"))
    actions = np.arange(70, dtype=np.float32).reshape(10, 7)
    with WebsocketServer(lambda observation: {"actions": actions}) as server:
        policy = OpenpiPolicy(server.url)
        policy.reset("pick up the red cube")
        np.testing.assert_array_equal(policy.act(seen), actions[:5])
        policy.close()
        state = server.observations[0]["observation/state"].tolist()
        asked = {"port": server.port, "prompt": "pick up the red cube", "state": state}
        answer = theirs(CLIENT, asked)
        assert server.messages[0] == server.messages[1]
    assert answer == {"metadata": {"model": "made up", "horizon": 10}, "actions": actions.tolist()}


def test_their_client_talks_through_the_proxy(theirs):
    actions = np.arange(70, dtype=np.float32).reshape(10, 7)
    settings = MonitorSettings(drift=0.0)
    guards = guard_clients(alarmed(8), 0.5, settings, Wire(), lambda number, event: None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    proxy = Proxy(Upstream(f"ws://127.0.0.1:{port}"), guards, "127.0.0.1", 0, Admission(token="sesame"))
    thread = threading.Thread(target=proxy.run)
    thread.start()
    with contextlib.ExitStack() as stack:
        stack.callback(thread.join)
        stack.callback(proxy.stop)
        # The server comes later than the client, which waits while it is refused.
        servers: list[WebsocketServer] = []
        timer = threading.Timer(
            3.0, lambda: servers.append(WebsocketServer(lambda _: {"actions": actions}, port))
        )
        timer.start()
        stack.callback(lambda: [server.__exit__() for server in servers])
        state = [*AT, np.pi, 0.0, 0.0, 0.03, -0.03]
        asked = {"port": proxy.port, "prompt": INSTRUCTION, "state": state, "key": "sesame"}
        found = theirs(GUARDED, asked)
    assert found["metadata"] == {"model": "made up", "horizon": 10}
    untouched, corrected = found["answers"]
    assert untouched == actions.tolist()
    row, stay = [0.4, 0, 0, 0, 0, 0.2, -1], [0, 0, 0, 0, 0, 0, -1]
    np.testing.assert_allclose(corrected, [row] * 8 + [stay] * 2, atol=1e-6)
