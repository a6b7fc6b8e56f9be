"""No key, and no password of a URL, is ever written: not to a file, not to a log, not to any output."""

from __future__ import annotations

import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from tests.cli.commands import Place

from cross_instance.testing.provider import Fault, ProviderServer

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRETS = {
    "OPENAI_API_KEY": "sk-proj-5up3rs3cr3t0penai",
    "ANTHROPIC_API_KEY": "sk-ant-5up3rs3cr3tanthr0pic",
    "GEMINI_API_KEY": "AIza5up3rs3cr3tgemini",
}
URL_SECRETS = ("5up3rs3cr3tb4se", "5up3rs3cr3tst0re", "5up3rs3cr3tt0ken")
MARK = b"5up3rs3cr3t"
"""In every secret."""

COMMANDS = (
    ("cross-instance", "limits"),
    ("cross-instance", "status"),
    ("cross-instance", "doctor"),
    ("cross-instance", "config", "show", "--origin"),
    ("pi_instance_status",),
    ("pi_model_limits",),
)


def with_password(url: str) -> str:
    return url.replace("//", f"//me:{URL_SECRETS[0]}@")


class Refusing(BaseHTTPRequestHandler):
    """Answers 401 and quotes the key, as a careless provider might."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = b'{"error": {"message": "Incorrect API key: %s"}}' % self.headers["authorization"].encode()
        self.send_response(401)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-ratelimit-limit-requests", "600")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def refusing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def place(tmp_path: Path, refusing: str) -> Iterator[Place]:
    """A project whose providers are local ones, with keys in the environment and passwords in the URLs."""
    place = Place(tmp_path)
    place.project.mkdir()
    with ProviderServer() as server:
        server.set_faults(Fault("429", first=2, last=2, retry_after="0.05"), Fault("429", first=4, last=4))
        place.configure({"providers": {"openai": {"baseUrls": [refusing, server.url.removeprefix("http://")]}}})
        place.environment |= SECRETS | {
            "OPENAI_BASE_URL": with_password(server.base_url("openai")),
            "ANTHROPIC_BASE_URL": server.base_url("anthropic"),
            "GOOGLE_GEMINI_BASE_URL": server.base_url("gemini"),
        }
        yield place


def spend(place: Place, refusing: str) -> subprocess.CompletedProcess[bytes]:
    """Let a process use its keys until it is killed."""
    program = Path(__file__).with_name("key_user.py")
    urls = (place.environment["OPENAI_BASE_URL"], with_password(f"http://{refusing}/v1"))
    return subprocess.run(
        [sys.executable, str(program), *urls], cwd=place.project, env=place.variables, capture_output=True, check=False
    )


def test_what_uses_keys_writes_them_nowhere(place: Place, refusing: str) -> None:
    done = spend(place, refusing)
    said = done.stdout + done.stderr
    assert done.returncode == -9, said.decode()
    assert b"['answered', 'answered']" in said
    assert b"AuthenticationError" in said
    assert b"cross_instance" in said
    outputs = {"process": said}
    for command in COMMANDS:
        for form in ((), ("--json",)):
            shown = place.run(*command, *form)
            outputs[" ".join((*command, *form))] = (shown.stdout + shown.stderr).encode()
    files = [path for path in place.home.rglob("*") if path.is_file()]
    assert len(files) > 4
    assert [path for path in files if MARK in path.read_bytes()] == []
    assert [name for name, output in outputs.items() if MARK in output] == []


@pytest.mark.parametrize(
    "store",
    [f"redis://me:{URL_SECRETS[1]}@127.0.0.1:1/0?patience=0.1", f"http://127.0.0.1:1/?token={URL_SECRETS[2]}"],
    ids=["password", "token"],
)
def test_what_a_store_s_address_hides_is_shown_nowhere(tmp_path: Path, store: str) -> None:
    place = Place(tmp_path, {"PI_STORE": store})
    place.project.mkdir()
    for host in (f"https://me:{URL_SECRETS[0]}@example.org", f"me:{URL_SECRETS[0]}@example.org:x"):
        place.configure({"providers": {"openai": {"baseUrls": [host]}}})
        for command in COMMANDS:
            for form in ((), ("--json",)):
                shown = place.run(*command, *form)
                assert shown.stdout + shown.stderr
                assert MARK not in (shown.stdout + shown.stderr).encode(), command
