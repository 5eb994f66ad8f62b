"""A small server that speaks OpenAI's chat completions, backed by a function, with faults to order."""

import base64
import io
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def completion(text, tokens=(), finish="stop"):
    """A response. `tokens` holds (text, logprob, {alternative: logprob}); none for a server without them."""
    listed = [
        {
            "token": token,
            "logprob": logprob,
            "bytes": list(token.encode()),
            "top_logprobs": [{"token": t, "logprob": p, "bytes": None} for t, p in others.items()],
        }
        for token, logprob, others in tokens
    ]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "logprobs": {"content": listed, "refusal": None} if listed else None,
        "finish_reason": finish,
    }
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": USAGE,
    }


def images_of(request):
    """The images of a request, decoded, and its words."""
    parts = request["messages"][0]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    assert all(url.startswith("data:image/png;base64,") for url in urls)
    images = [Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))) for url in urls]
    return images, next(part["text"] for part in parts if part["type"] == "text")


class Server:
    """Answers with what `reply(request)` makes: a dictionary, or bytes as they are.

    `faults` are served first, one a request: a status, "stall" (no byte until the client is gone), "trickle"
    (a byte now and then), "hang up" (closed without a response), "half" (closed in the middle of one).
    """

    def __init__(self, reply):
        self.reply, self.faults, self.requests, self.headers = reply, [], [], []
        self.reply_to_faults = {"error": {"message": "out of memory"}}
        self._over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append(json.loads(body))
                outer.headers.append(dict(self.headers))
                fault = outer.faults.pop(0) if outer.faults else None
                if self.path != "/v1/chat/completions":
                    fault = 404
                if fault == "hang up":
                    self.close_connection = True
                    return
                if fault == "stall":
                    outer._over.wait(10)
                    self.close_connection = True
                    return
                status = fault if isinstance(fault, int) else 200
                made = outer.reply_to_faults if status != 200 else outer.reply(outer.requests[-1])
                data = made if isinstance(made, bytes) else json.dumps(made).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if fault == "half":
                    self.wfile.write(data[: len(data) // 2])
                    self.close_connection = True
                    return
                if fault == "trickle":
                    self._trickle(data)
                    return
                self.wfile.write(data)

            def _trickle(self, data):
                for byte in data:
                    if outer._over.is_set():
                        break
                    try:
                        self.wfile.write(bytes([byte]))
                        self.wfile.flush()
                    except OSError:
                        break
                    time.sleep(0.02)
                self.close_connection = True

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
