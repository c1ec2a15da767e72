"""A device that dies again and again: `python -m tests.membership.lives URL HOME LOG STEP...`, one life a step.

A step is "before FACT" or "after FACT"; at the first of its kind the process ends by `os._exit`: without a goodbye and
with every file as it is, as kill -9 would leave it. The last life has no step and lives to the end. Each is a fork
of this process, which has imported everything and runs no thread.

Facts are appended to LOG, one a line, before the life can end.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from edge_sdk.membership import Membership, RoundPlan, TrainedUpdate
from edge_sdk.membership import runner as client
from edge_sdk.membership.home import Home
from edge_sdk.membership.journal import Journal
from edge_sdk.membership.line.connection import Link
from edge_sdk.wire.transfer import decode_chunk, make_manifest
from tests.integration.devices import profile, train

DIED = 66
CHUNK = 1024


class Life:
    """One session, up to `step`."""

    def __init__(self, url: str, home: Path, log: Path, step: str) -> None:
        self._url, self._home, self._step = url, home, step
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, *fact: object) -> None:
        os.write(self._log, (" ".join(map(str, fact)) + "\n").encode())

    def at(self, moment: str) -> None:
        if moment == self._step:
            self.note("died", moment)
            os._exit(DIED)

    def watch(self, owner: type, name: str, fact: Callable[..., tuple[object, ...]]) -> None:
        """Note a fact whenever this method has returned."""
        method = getattr(owner, name)

        def watched(this: Any, *arguments: Any, **named: Any) -> Any:
            what, *details = fact(this, *arguments)
            self.at(f"before {what}")
            result = method(this, *arguments, **named)
            self.note(what, *details)
            self.at(f"after {what}")
            return result

        setattr(owner, name, watched)

    def train(self, plan: RoundPlan) -> TrainedUpdate:
        self.note("training", plan.round)
        self.at("after training")
        return train("apples", 0, plan)

    def live(self) -> NoReturn:
        self.watch(Journal, "next_epoch", lambda _: ("epoch",))
        self.watch(Journal, "trust", lambda _, key: ("trusted",))
        self.watch(Journal, "begin", lambda _, plan, number: ("begun", number))
        self.watch(Journal, "keep_update", lambda _, plan, offer, *rest: ("kept", offer.round))
        self.watch(Journal, "note", lambda journal, plan, progress: (progress, sha256(journal, plan)))
        self.watch(Journal, "keep_chunk", lambda _, sha256, number, data: ("chunk", sha256, number))
        self.watch(Journal, "receive", lambda _, manifest, data: ("received", manifest.sha256))
        self.watch(Home, "settle", lambda *_: ("settled",))
        self.watch(Link, "_publish", sending)
        client.make_manifest = partial(make_manifest, chunk_size=CHUNK)  # type: ignore[attr-defined]
        with Membership(self._url, "tastes", "me", profile("apples", 0), self._home, self.train) as me:
            result = me.run(deadline=60)
        self.note("finished", result.finished, *sorted(result.adapters))
        os._exit(0)


def sha256(journal: Journal, plan: str) -> str:
    kept = journal.update(plan)
    assert kept
    return kept[0].manifest.sha256


def sending(_: Link, topic: str, payload: bytes) -> tuple[object, ...]:
    if not topic.endswith("/chunk"):
        return ("message",)
    chunk = decode_chunk(payload)
    return ("sent", chunk.sha256, chunk.index)


def main(url: str, home: str, log: str, *steps: str) -> None:
    for step in [*steps, ""]:
        child = os.fork()
        if child == 0:
            try:
                Life(url, Path(home), Path(log), step).live()
            finally:
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != (DIED if step else 0):
            sys.exit(f"the life until {step or 'the end'!r} ended with code {code}")


if __name__ == "__main__":
    main(*sys.argv[1:])
