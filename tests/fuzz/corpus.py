"""The inputs that every run begins with, and that the tests replay: corpus/TARGET/, named by hash.

    python -m tests.fuzz.corpus FOLDER      take over, of what a run found in FOLDER/TARGET/, what is new in kind

A new kind is, of what was not seen before, another course of the decoder: the lines of ours that it went through, and
how it ended.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.targets import TARGETS, Target

FOLDER = Path(__file__).parent / "corpus"
# Bytes that one input, and all inputs of one target, may have in the corpus.
_LARGEST, _ROOM = 4096, 18 << 10


def inputs(name: str) -> list[bytes]:
    """All committed inputs of a target, and its examples."""
    return [*TARGETS[name].examples(), *(path.read_bytes() for path in sorted((FOLDER / name).glob("*")))]


def course(target: Target, data: bytes) -> frozenset[tuple[str, int]]:
    """The lines of our packages that an input leads through, and whether it is accepted."""
    lines: set[tuple[str, int]] = set()
    ours = tuple(str(FOLDER.parents[2] / package) for package in ("edge_sdk", "coordinator"))

    def trace(frame: object, event: str, _: object) -> object:
        code = frame.f_code  # type: ignore[attr-defined]
        if not code.co_filename.startswith(ours):
            return None
        lines.add((code.co_filename, frame.f_lineno))  # type: ignore[attr-defined]
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        accepted = target(data)
    finally:
        sys.settrace(before)
    return frozenset({*lines, ("accepted", int(accepted))})


def keep(name: str, found: Iterator[bytes]) -> int:
    """Add to the corpus what leads where nothing in it does, the smallest first; returns how many were added."""
    target, folder = TARGETS[name], FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    known = frozenset().union(*(course(target, data) for data in inputs(name)))
    courses = {course(target, data) for data in inputs(name)}
    room = _ROOM - sum(path.stat().st_size for path in folder.glob("*"))
    added = 0
    for data in sorted(set(found), key=lambda data: (len(data), data)):
        if not 0 < len(data) <= min(_LARGEST, room):
            continue
        this = course(target, data)
        if this <= known and (this in courses or len(data) > 200):
            continue
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        known, room, added = known | this, room - len(data), added + 1
        courses.add(this)
    return added


if __name__ == "__main__":
    for place in sorted(Path(sys.argv[1]).iterdir()):
        print(place.name, keep(place.name, (path.read_bytes() for path in place.iterdir())))
