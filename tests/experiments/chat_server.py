"""A chat endpoint on the loopback interface that does what a test wants, good or bad."""

import contextlib
import dataclasses
import http.server
import json
import threading
import time


@dataclasses.dataclass
class Reply:
    """One answer of the server."""

    body: bytes = b""
    status: int = 200
    headers: dict = dataclasses.field(default_factory=dict)
    cut: int | None = None  # bytes after which the connection ends
    drip: float = 0.0  # seconds before each byte
    wait: float = 0.0  # seconds before the answer


def chat(text, *, usage=(7, 3), reason="stop", **more):
    """A chat completion."""
    body = {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": reason}],
        "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]},
    }
    return Reply(json.dumps(body).encode(), **more)


def echo(body):
    """Says the last message again."""
    return chat(f"answer to {body['messages'][-1]['content']}")


class Server(http.server.ThreadingHTTPServer):
    """`reply` gives the answer to the body of a request; `replies`, where there are any, the next
    ones. `paths`, `bodies` (bytes of a PUT, else JSON) and `headers` tell what was asked, `most`
    how many requests were open at once."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.reply, self.replies = echo, []
        self.paths, self.bodies, self.headers, self.times = [], [], [], []
        self.open = self.most = 0
        self.lock = threading.Lock()
        self.ended = threading.Event()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # a connection stays for the next request
    wbufsize = -1  # an answer goes as one piece

    def handle(self):
        # Clients may end a connection that waits for the next request.
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self):
        self._handle({})

    def do_POST(self):
        self._handle(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def do_PUT(self):
        self._handle(self.rfile.read(int(self.headers["Content-Length"])))

    def _handle(self, body):
        server = self.server
        with server.lock:
            server.open += 1
            server.most = max(server.most, server.open)
            server.paths.append(self.path)
            server.bodies.append(body)
            server.headers.append(dict(self.headers))
            server.times.append(time.monotonic())
            reply = server.replies.pop(0) if server.replies else server.reply(body)
        try:
            with contextlib.suppress(OSError):
                self._send(reply)
        finally:
            with server.lock:
                server.open -= 1

    def _send(self, reply):
        self.server.ended.wait(reply.wait)
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.close_connection = self.close_connection or reply.cut is not None
        if not reply.drip:
            self.wfile.write(reply.body[: reply.cut])
            self.wfile.flush()
        for byte in reply.body if reply.drip else b"":
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if self.server.ended.wait(reply.drip):
                return

    def log_message(self, *args):
        """Silence."""


@contextlib.contextmanager
def running_server():
    """A server that ends with the block."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()
