"""Real brokers on free loopback ports. A broker that is not installed fails the test: CI installs them all."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from edge_sdk.transport import Settings

READY_DEADLINE = 60.0
MOSQUITTO_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def quick(url: str, **values: Any) -> Settings:
    """Settings of a client that connects again without delay."""
    return Settings(url, reconnect_delay=(0.05, 0.1), **values)


class Mosquitto:
    """A Mosquitto of our own: starts, stops and restarts on one port.

    Args:
        folder: for its configuration and files.
        lines: of the configuration, beside the listener.
        tls: whether `lines` make the listener a TLS one.
    """

    def __init__(self, folder: Path, *lines: str, tls: bool = False) -> None:
        executable = shutil.which("mosquitto", path=MOSQUITTO_PATH)
        assert executable, "Mosquitto is not installed: apt-get install mosquitto, or brew install mosquitto."
        self._executable = executable
        self._config = folder / "mosquitto.conf"
        self.port = free_port()
        # Started by root, it would change to a user that cannot read our files.
        listener = [f"listener {self.port} 127.0.0.1", "persistence false", "user root"]
        if not any(line.startswith("allow_anonymous") for line in lines):
            listener.append("allow_anonymous true")
        self._config.write_text("\n".join([*listener, *lines]) + "\n", "utf-8")
        self._process: subprocess.Popen[bytes] | None = None
        self._scheme = "mqtts" if tls else "mqtt"

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process, while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Mosquitto:
        self._process = subprocess.Popen(
            [self._executable, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        wait_until_listening(self.port, self._process)
        return self

    def stop(self, *, kill: bool = False) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill() if kill else process.terminate()
            process.communicate(timeout=READY_DEADLINE)

    def __enter__(self) -> Mosquitto:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def wait_until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when something accepts connections on the port; fail if the process ends or takes too long."""
    deadline = time.monotonic() + READY_DEADLINE
    pause = threading.Event()
    while time.monotonic() < deadline:
        if process.poll() is not None:
            stderr = process.communicate()[1].decode(errors="replace")
            raise AssertionError(f"the broker ended with code {process.returncode}: {stderr}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            pause.wait(0.02)
        else:
            return
    raise AssertionError(f"the broker did not listen on port {port} within {READY_DEADLINE} s")
