"""Running a part in a process of its own: its progress, its deadline, and its end, also one by force."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from edge_sdk import errors
from edge_sdk.errors import DeadlineExceeded, ImpastoError, OutOfMemory
from edge_sdk.transport import Settings, Tls

# Called with (steps done, steps in all or None, note).
Show = Callable[[int, "int | None", str], None]


@dataclass
class Outcome:
    """The end of a part: values, or a reason why there are none, or an error."""

    values: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""
    error: ImpastoError | None = None

    def as_values(self) -> dict[str, Any]:
        """The outcome as it stands in a row."""
        if self.error is not None:
            return {"error": type(self.error).__name__, "reason": str(self.error)}
        return {"skipped": self.skipped} if self.skipped else self.values


def plain(settings: Settings) -> dict[str, Any]:
    """The settings of a connection as values that go to a part's process, on its stdin."""
    tls = settings.tls or Tls()
    files = {name: None if file is None else str(file) for name, file in vars(tls).items()}
    return {"url": settings.url, "username": settings.username, "password": settings.password, "tls": files}


def run(part: str, settings: dict[str, Any], deadline: float, show: Show) -> Outcome:
    """Run a part to its end, and return that.

    settings: plain values, which the part gets on its stdin.
    deadline: seconds after which the process is ended.
    """
    with tempfile.TemporaryFile() as said:
        began = time.monotonic()
        command = [sys.executable, "-m", "edge_sdk.cli.bench.child", part]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, encoding="utf-8"
        ) as process:
            try:
                outcome = _follow(process, settings, began, deadline, show)
            finally:
                process.kill()
                process.wait()
        if outcome is not None:
            return outcome
        said.seek(0)
        return Outcome(error=_unexpected(part, process.returncode, said))


def _follow(
    process: subprocess.Popen[str], settings: dict[str, Any], began: float, deadline: float, show: Show
) -> Outcome | None:
    """Take the lines of a part until its last one; None if it ends without that."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    assert process.stdin is not None
    try:
        json.dump(settings, process.stdin)
        process.stdin.close()
    except BrokenPipeError:  # it has ended already
        pass
    marks: dict[str, float] = {}
    while True:
        try:
            line = lines.get(timeout=max(0.0, began + deadline - time.monotonic()))
        except queue.Empty:
            return Outcome(
                error=DeadlineExceeded(f"This part took longer than {deadline:g} s: give it more with --deadline.")
            )
        if line is None:
            process.wait(10)
            return None
        said = json.loads(line)
        if "progress" in said:
            show(*said["progress"])
        elif "mark" in said:
            marks[f"{said['mark']}_seconds"] = round(time.monotonic() - began, 3)
        elif "skipped" in said:
            return Outcome(skipped=said["skipped"])
        elif "error" in said:
            return Outcome(error=_error(*said["error"]))
        else:
            return Outcome(marks | said["values"])


def _read(out: IO[str] | None, lines: queue.SimpleQueue[str | None]) -> None:
    try:
        for line in out or ():
            lines.put(line)
    except ValueError:  # closed, as the part was ended
        pass
    lines.put(None)


def _error(name: str, message: str) -> ImpastoError:
    """The error that a part has named, to be told as if it had come from here."""
    kind = getattr(errors, name, ImpastoError)
    usual = isinstance(kind, type) and issubclass(kind, ImpastoError) and kind is not errors.BlobLost
    return (kind if usual else ImpastoError)(message)


def _unexpected(part: str, code: int, said: IO[bytes]) -> ImpastoError:
    """The error for a process that has ended without a word."""
    killed = getattr(signal, "SIGKILL", None)
    if killed is not None and code == -killed:
        return OutOfMemory(
            f"The system has ended the part {part}, most likely for lack of memory (`dmesg | tail` says so): try a "
            "--memory-limit or a smaller --batch-size, or end other programs."
        )
    last = said.read()[-2000:].decode("utf-8", errors="replace").strip().splitlines()
    reason = f": {last[-1]}" if last else ""
    return ImpastoError(f"The part {part} has ended with code {code}{reason}. Please report it.")
