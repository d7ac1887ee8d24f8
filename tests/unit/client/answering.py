"""An API server of scripted answers, and a kubeconfig that leads to it."""

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


class BreaksOff(bytes):
    """The beginning of an answer, after which the connection is gone."""


@dataclass(frozen=True)
class Answer:
    """One of several answers to a request that has a status of its own."""

    status: int
    body: object


class Answers:
    """What is answered: by method and path, a status and a body; and what was asked."""

    def __init__(self):
        self.by_request = {}
        self.asked = []

    def say(self, method, path, body, status=200):
        """Answer a request so; a list is one body after the other, the last for good; a function is asked."""
        self.by_request[method, path] = (status, body)

    def refuse(self, method, path, status, message, reason):
        self.say(method, path, {"kind": "Status", "message": message, "reason": reason, "code": status}, status)


def _handler(answers):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self):
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length", 0))
            sent = json.loads(self.rfile.read(length)) if length else None
            query = dict(parse_qsl(url.query))
            answers.asked.append((self.command, url.path, query, sent))
            status, body = answers.by_request.get((self.command, url.path), (404, b"404 page not found"))
            if isinstance(body, list):
                body = body.pop(0) if len(body) > 1 else body[0]
            if isinstance(body, Answer):
                status, body = body.status, body.body
            if callable(body):
                body = body(query, sent)
            self.send_response(status)
            if isinstance(body, BreaksOff):
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n" if body else b"")
                self.close_connection = True
                return
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer

        def log_message(self, *_):
            """Say nothing."""

    return Handler


@contextmanager
def answering(folder):
    """Run a server, and lend its answers and the path of a kubeconfig."""
    answers = Answers()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(answers))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield answers, kubeconfig(folder, server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def kubeconfig(folder, port):
    """Write a kubeconfig for a server on this machine."""
    path = folder / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "team"}}],
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "me", "user": {"token": "secret"}}],
    }
    path.write_text(json.dumps(content))
    return str(path)
