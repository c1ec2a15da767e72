"""The process that a part runs in: settings come as JSON on stdin, reports go out as JSON lines on stdout.

Lines: {"progress": [done, of, note]}, {"mark": name}, and at the end one of {"values": {...}}, {"skipped": reason} and
{"error": [class, message]}.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from edge_sdk.cli.bench.parts import Skip, part_named
from edge_sdk.errors import ImpastoError, OutOfMemory, describe


class Lines:
    """Reports as lines of JSON."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def progress(self, done: int, of: int | None, note: str = "") -> None:
        self.say(progress=[done, of, note])

    def mark(self, name: str) -> None:
        self.say(mark=name)

    def say(self, **line: Any) -> None:
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()


def peak_memory() -> int | None:
    """Largest resident memory of this process so far, in bytes; None where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text("utf-8")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    # Bytes on macOS, KiB elsewhere.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Run the part that is named on the command line."""
    # Libraries that print must not break the lines.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lines, settings = Lines(out), json.load(sys.stdin)
    try:
        values = part_named(sys.argv[1])(settings, lines)
    except Skip as skipped:
        lines.say(skipped=str(skipped))
    except MemoryError:
        lines.say(error=[OutOfMemory.__name__, "There is not enough memory for this part."])
    except (ImpastoError, OSError) as error:
        lines.say(error=[type(error).__name__, describe(error)])
    else:
        lines.say(values=values | {"peak_memory": peak_memory()})


if __name__ == "__main__":
    main()
