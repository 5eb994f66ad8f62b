"""A server as openpi's websocket_policy_server, with faults to order. Shares no code with ours."""

import contextlib
import http
import threading
import traceback

import msgpack
import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve


def pack(value):
    def default(array):
        if isinstance(array, np.ndarray):
            return {
                b"__ndarray__": True,
                b"data": array.tobytes(),
                b"dtype": array.dtype.str,
                b"shape": array.shape,
            }
        return {b"__npgeneric__": True, b"data": array.item(), b"dtype": array.dtype.str}

    return msgpack.packb(value, default=default)


def unpack(data):
    def hook(found):
        if b"__ndarray__" not in found:
            return found
        return np.ndarray(buffer=found[b"data"], dtype=np.dtype(found[b"dtype"]), shape=found[b"shape"])

    return msgpack.unpackb(data, object_hook=hook)


class WebsocketServer:
    """Answers `reply(observation)`; a text frame with the traceback, and a close, where that raises.

    `faults` are served first, one a message: "stall" (nothing until the client is gone), "drop" (closed
    without an answer), "late" (an answer after half a second), or a frame as it is, bytes or text.
    `greetings` are the same in the place of the metadata, one a connection.
    """

    def __init__(self, reply, port=0):
        self.reply, self.faults, self.greetings = reply, [], []
        self.observations, self.messages, self.connections = [], [], 0
        self.headers = []
        self._over = threading.Event()

        def health(connection, request):
            if request.path == "/healthz":
                return connection.respond(http.HTTPStatus.OK, "OK\n")
            return None

        self._server = serve(
            self._handle,
            "127.0.0.1",
            port,
            compression=None,
            max_size=None,
            process_request=health,
            ping_interval=None,
            close_timeout=0.5,
        )
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def port(self):
        return self._server.socket.getsockname()[1]

    @property
    def url(self):
        return f"ws://127.0.0.1:{self.port}"

    def _handle(self, connection):
        self.connections += 1
        self.headers.append(connection.request.headers)
        with contextlib.suppress(ConnectionClosed):
            greeting = self.greetings.pop(0) if self.greetings else pack({"model": "made up", "horizon": 10})
            if not self._play(connection, greeting):
                return
            while True:
                self.messages.append(connection.recv())
                if self.faults:
                    if not self._play(connection, self.faults.pop(0)):
                        return
                    continue
                try:
                    self.observations.append(unpack(self.messages[-1]))
                    answer = pack({**self.reply(self.observations[-1]), "server_timing": {"infer_ms": 1.5}})
                except Exception:
                    connection.send(traceback.format_exc())
                    connection.close(1011, "Internal server error. Traceback included in previous frame.")
                    return
                connection.send(answer)

    def _play(self, connection, fault):
        if fault == "stall":
            self._over.wait(10)
        elif fault == "late":
            self._over.wait(0.5)
            connection.send(pack({"actions": np.full((1, 7), -9.0)}))
            return True
        elif fault != "drop":
            connection.send(fault)
            return True
        return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._over.set()
        self._server.shutdown()
        self._thread.join()
