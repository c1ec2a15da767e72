"""kill -9 of a device at every step that it notes, over a real broker, against a real coordinator.

Training is replaced by the deterministic trainer of tests/integration/devices.py; what is tested is everything around.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from edge_sdk.adapter import load
from edge_sdk.membership.home import Home
from edge_sdk.wire.transfer import make_manifest
from tests.integration.coordinators import Coordinator, write_federation
from tests.membership.lives import CHUNK
from tests.transport.brokers import Mosquitto

# One life each: the device dies there at the first opportunity, the next life goes on with the same home.
STEPS = [
    "after epoch",
    "before trusted",
    "after trusted",
    "before begun",
    "after begun",
    "after training",
    "before kept",
    "after kept",
    "before offered",
    "after offered",
    "before sent",
    "after sent",
    "before committed",
    "before chunk",
    "after chunk",
    "before received",
    "after received",
    "after committed",
    "before settled",
    "after settled",
]


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_a_device_killed_at_every_step_trains_nothing_twice_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.learning.aggregate.make_manifest", partial(make_manifest, chunk_size=CHUNK))
    home, log = tmp_path / "home", tmp_path / "log"
    with Mosquitto(tmp_path) as broker:
        path = write_federation(tmp_path, broker.url, rounds=3, devices=1)
        path.write_text(path.read_text().replace("deadline = 60.0", "deadline = 600.0"))
        coordinator = Coordinator(path, once=False)  # a life that has all may still die, and ask again
        command = [sys.executable, "-m", "tests.membership.lives", broker.url, str(home), str(log), *STEPS]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, (done.stderr, log.read_text()[-2000:])
        coordinator.stop()
        coordinator.join()

    facts = [tuple(line.split(" ")) for line in log.read_text().splitlines()]
    assert [" ".join(fact[1:]) for fact in facts if fact[0] == "died"] == STEPS
    assert facts[-1] == ("finished", "True", "cluster", "cluster-0", "root")

    # Only what died before its update was kept is trained again, and what is kept once is never trained again.
    trained = [number for what, *number in facts if what == "training"]
    assert trained == [["1"], ["1"], ["1"], ["2"], ["3"]]
    assert [number for what, *number in facts if what == "kept"] == [["1"], ["2"], ["3"]]
    # A chunk that was kept never comes again.
    chunks = [fact for fact in facts if fact[0] == "chunk"]
    assert len(chunks) == len(set(chunks)) > 3 * 2
    # Nothing of an update is sent once it is known to be committed.
    for position, (what, *about) in enumerate(facts):
        if what == "committed":
            assert not [later for later in facts[position:] if later[:2] == ("sent", about[0])]

    counted = [event["round"] for event in coordinator.named("update_counted")]
    assert counted == [1, 2, 3]
    with closing(Home(home).journal()) as journal:
        assert journal.outbox
        assert (journal.outbox.round, journal.outbox.progress) == (3, "committed")
    assert load(home / "cluster.safetensors").layers
    assert not list(home.glob("training-*"))
