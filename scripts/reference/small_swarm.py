"""Runs commands and daemons of lora-swarm on this machine, and a receiver of webhooks, for check_programs.py."""

import json
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NODE = ["node", str(ROOT / "cli/swarm.js")]
# Seconds. Everything that is waited for happens much earlier on an idle machine.
PATIENCE = 300


def expect(condition: bool, text: str) -> None:
    if not condition:
        raise AssertionError(text)


class Daemon:
    """A running `lora-swarm … --json`."""

    def __init__(self, *arguments: str, text: str = ""):
        self.process = subprocess.Popen(
            [*NODE, *arguments, "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.process.stdin.write(text)
        self.process.stdin.close()

    def first(self, event: str) -> dict:
        for line in self.process.stdout:
            found = json.loads(line)
            if found.get("event") == event:
                # The daemon must be able to go on printing.
                threading.Thread(target=self.process.stdout.read, daemon=True).start()
                return found
        raise AssertionError(f"{self.process.args} ended before {event}")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE)


class Receiver(HTTPServer):
    """A receiver of webhooks."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[tuple[bytes, dict[str, str]]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((body, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def swarm(*arguments: str) -> list[dict]:
    """Runs a command with --json, and returns the objects that it prints."""
    done = subprocess.run([*NODE, *arguments, "--json"], capture_output=True, text=True, timeout=PATIENCE)
    expect(done.returncode == 0, f"lora-swarm {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def wait(what: str, is_done) -> None:
    """Waits until a server that prints nothing about its state is ready."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            if is_done():
                return
        except OSError:
            pass  # The server does not listen yet.
        time.sleep(0.5)
    raise AssertionError(f"waited {PATIENCE} s for {what}")
