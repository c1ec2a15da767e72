"""Devices of benchmarks.transport, several in one process: python -m benchmarks.network.device SETTINGS

Each is a whole `Membership`. Instead of training it adds a constant. With "gate", every device stops when its update
is ready on its disk, and hands it in when a line comes on standard input. Events go to standard output, with the time,
as JSON lines; at the end the process reports its peak of memory.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

from benchmarks.network.content import RANK, SEED, SLOTS, moved, profile
from benchmarks.shared.memory import total_peak
from edge_sdk.adapter import initial_adapter
from edge_sdk.membership import Membership, RoundPlan, TrainedUpdate
from edge_sdk.wire import TrainingStats

_TOLD = frozenset({"joined", "trained", "update_committed", "adapter_received", "finished"})


class Gate:
    """A gate that opens once for each line of standard input."""

    def __init__(self) -> None:
        self._opened = 0
        self._changed = threading.Condition()

    def open(self) -> None:
        with self._changed:
            self._opened += 1
            self._changed.notify_all()

    def wait(self, number: int) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._opened >= number, 600):
                raise TimeoutError("nobody opened the gate")


def main() -> None:
    given = json.loads(sys.argv[1])
    gate, lock = Gate(), threading.Lock()

    def tell(event: dict[str, Any]) -> None:
        with lock:
            sys.stdout.write(json.dumps(event) + "\n")
            sys.stdout.flush()

    def device(number: int) -> None:
        def train(plan: RoundPlan) -> TrainedUpdate:
            start = plan.start or initial_adapter(SLOTS, RANK, SEED)
            stats = TrainingStats(pictures=10, first_loss=1.0, last_loss=0.5, train_seconds=0.0)
            return TrainedUpdate(moved(start, number), stats)

        def note(event: dict[str, Any]) -> None:
            if event["event"] in _TOLD:
                tell(event)
            if event["event"] == "trained" and given["gate"]:
                gate.wait(event["round"])

        home = Path(given["folder"]) / f"device-{number}"
        with Membership(
            given["url"], given["federation"], f"device-{number}", profile(number), home, train, note
        ) as membership:
            membership.run(answer=120.0)

    numbers = range(given["first"], given["first"] + given["count"])
    threads = [threading.Thread(target=device, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    threading.Thread(target=lambda: [gate.open() for _ in sys.stdin], daemon=True).start()
    for thread in threads:
        thread.join()
    tell({"event": "ended", "peak": total_peak()})


if __name__ == "__main__":
    main()
