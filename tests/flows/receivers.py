"""A webhook and a mail server on this machine: real ones, that keep what they get."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def webhook(
    *answers: int, refused: list[int] | None = None
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Its URL, and the JSON of every call that it took.

    The first calls get these `answers`, the others 204; a test may add more to `refused`.
    """
    calls: list[dict[str, Any]] = []
    waiting = [*answers] if refused is None else refused

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = waiting.pop(0) if waiting else 204
            if answer < 300:
                calls.append(call)
            self.send_response(answer)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"http://127.0.0.1:{port}/nights?token=secret", calls


@contextmanager
def mailbox() -> Iterator[tuple[int, list[str]]]:
    """Its port, and the text of every letter, headers first."""
    letters: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 here")
            while line := self.rfile.readline().decode().strip():
                if line.upper() == "DATA":
                    self.say("354 go on")
                    letters.append(self.letter())
                self.say("221 bye" if line.upper() == "QUIT" else "250 ok")
                if line.upper() == "QUIT":
                    return

        def letter(self) -> str:
            lines: list[str] = []
            while (line := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                lines.append(line)
            return "\n".join(lines)

        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    with _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
        yield port, letters


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
