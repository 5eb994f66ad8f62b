"""A server as the deploy.py of OpenVLA and of OpenVLA-OFT, with faults to order. Shares no code with ours."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np


def encode(value):
    """What json_numpy.dumps makes of it."""

    def default(array):
        data = base64.b64encode(array.data if array.flags["C_CONTIGUOUS"] else array.tobytes())
        return {"__numpy__": data.decode(), "dtype": array.dtype.str, "shape": array.shape}

    return json.dumps(value, default=default)


def decode(text):
    """What json_numpy.loads makes of it."""

    def hook(found):
        if "__numpy__" not in found:
            return found
        array = np.frombuffer(base64.b64decode(found["__numpy__"]), np.dtype(found["dtype"]))
        return array.reshape(found["shape"]) if found["shape"] else array[0]

    return json.loads(text, object_hook=hook)


class ActServer:
    """Answers `reply(payload)`, as deploy.py does: "error" where that raises, double-encoded if asked so.

    `faults` are served first, one a request: a status, "stall" (no byte until the client is gone), "trickle"
    (a byte now and then), "hang up" (closed without an answer), "half" (closed in the middle), or bytes.
    """

    def __init__(self, reply):
        self.reply, self.faults, self.payloads, self.bodies = reply, [], [], []
        self._over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                outer.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                assert (self.path, self.headers["Content-Type"]) == ("/act", "application/json")
                fault = outer.faults.pop(0) if outer.faults else None
                self.close_connection = fault is not None
                if fault == "hang up":
                    return
                if fault == "stall":
                    outer._over.wait(10)
                    return
                data = fault if isinstance(fault, bytes) else outer.answer(outer.bodies[-1]).encode()
                self.send_response(fault if isinstance(fault, int) else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if fault == "half":
                    data = data[: len(data) // 2]
                if fault != "trickle":
                    self.wfile.write(data)
                    return
                for byte in data:
                    if outer._over.wait(0.02):
                        break
                    self.wfile.write(bytes([byte]))

            def log_message(self, *_):
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # clients that go away are what is tried here

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def answer(self, body):
        try:
            payload = decode(body)
            double = "encoded" in payload
            if double:
                assert len(payload) == 1
                payload = decode(payload["encoded"])
            self.payloads.append(payload)
            action = self.reply(payload)
            return encode(encode(action)) if double else encode(action)
        except Exception:
            return encode("error")

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
