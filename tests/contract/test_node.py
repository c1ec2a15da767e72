"""A device in another language, written from docs/protocol.md alone, goes through a whole federation."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from coordinator import config
from coordinator.identity.keys import Keys
from edge_sdk.adapter import load
from edge_sdk.membership import RoundPlan
from edge_sdk.transport import Settings, create
from edge_sdk.wire.messages import Finished, encode
from edge_sdk.wire.signing import Signer
from tests.coordinator.adapters import BASE_ID, SLOTS
from tests.coordinator.played import TOPICS
from tests.integration.coordinators import Coordinator, write_federation
from tests.integration.devices import Device
from tests.transport.brokers import Mosquitto
from tests.transport.inbox import Inbox

CLIENT = Path(__file__).parent / "node"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client with its two packages from npm."""
    folder = tmp_path_factory.mktemp("node")
    shutil.copytree(CLIENT, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    assert shutil.which("npm"), "npm is not installed: apt-get install nodejs npm."
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=300)
    return folder / "device.mjs"


def test_a_stranger_takes_part_in_every_round(client: Path, tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        path = write_federation(tmp_path, broker.url, rounds=3, devices=3)
        coordinator = Coordinator(path)
        command = ["node", str(client), broker.url, "tastes", "stranger", str(tmp_path / "impasto.json")]
        stranger = subprocess.Popen([*command, str(tmp_path / "stranger")], stdout=subprocess.PIPE, text=True)
        ours = [Device(number, broker.url, tmp_path / f"device-{number}").start() for number in (0, 2)]
        said, _ = stranger.communicate(timeout=100)
        for device in ours:
            assert device.join().error is None
        coordinator.join()
    events = [json.loads(line) for line in said.splitlines()]
    assert stranger.returncode == 0, events[-3:]
    names = [event["event"] for event in events]
    assert names.count("committed") == 3
    assert [event["accepted"] for event in events if event["event"] == "rounddone"] == [True] * 3
    assert not {"ignored", "refused", "failed"} & set(names)
    assert [event["updates"] for event in coordinator.named("round_closed")] == [3, 3, 3]
    assert coordinator.named("refused") == []
    # What it brought home is what the coordinator has made: adapters that this SDK reads.
    finished = events[-1]
    assert {"root", f"cluster-{finished['cluster']}"} <= {name for name, _ in finished["adapters"]}
    for _, sha256 in finished["adapters"]:
        file = tmp_path / "stranger" / f"{sha256}.safetensors"
        assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256
        adapter = load(file)
        assert adapter.base_id == BASE_ID
        assert adapter.layers.keys() == SLOTS.keys()


def test_a_stranger_follows_a_new_key_and_nobody_else(client: Path, tmp_path: Path) -> None:
    """The coordinator takes a new key, for which the old one vouches. Then a stranger shows a state of his own and
    sends a Finished, and a Finished of the coordinator's earlier instance is repeated."""
    with Mosquitto(tmp_path) as broker:
        path = write_federation(tmp_path, broker.url, rounds=3, devices=2)
        first = Coordinator(path)
        command = ["node", str(client), broker.url, "tastes", "stranger", str(tmp_path / "impasto.json")]
        stranger = subprocess.Popen([*command, str(tmp_path / "stranger")], stdout=subprocess.PIPE, text=True)
        go_on = threading.Event()

        def wait(plan: RoundPlan) -> None:
            assert plan.round == 1 or go_on.wait(60)

        ours = Device(0, broker.url, tmp_path / "device-0", before_training=wait).start()
        first.wait_for("round_closed")
        first.stop()
        keys = Keys(config.load(path).home, "tastes")
        former, intruder = keys.signer, Signer(bytes(32), "tastes")
        epoch = first.named("coordinator_started")[0]["epoch"]
        keys.rotate()
        second = Coordinator(path)
        end = Finished(rounds=3, cluster=0, adapters=[])
        said, shown = create(Settings(url=broker.url)), Inbox()
        said.connect(20.0)
        said.subscribe(TOPICS.coordinator_state, shown)
        shown.wait(lambda messages: any(keys.signer.public in payload for _, payload in messages))
        state = intruder.state(online=True, epoch=2**31 - 1, base_id=BASE_ID, level="plain")
        said.publish(TOPICS.coordinator_state, encode(state), retain=True)
        for forged in (
            end,
            intruder.signed(end, "stranger", 2**31 - 1),
            former.signed(end, "stranger", epoch),
            keys.signer.signed(end, "stranger", epoch),
            keys.signer.signed(end, "device-0", 2**31 - 1),
        ):
            said.publish(TOPICS.control("stranger", "down"), encode(forged))
        said.flush(20.0)
        go_on.set()
        heard, _ = stranger.communicate(timeout=100)
        assert ours.join().error is None
        second.join()
        said.close()
    events = [json.loads(line) for line in heard.splitlines()]
    assert stranger.returncode == 0, events[-3:]
    names = [event["event"] for event in events]
    assert names.count("committed") == 3
    assert names[-1] == "finished"
    assert events[-1]["adapters"], "the end that was believed is the coordinator's"
    assert [event for event in events if event["event"] == "ignored" and "state" in event]
    assert len([event for event in events if event["event"] == "ignored" and "state" not in event]) >= 4


def test_it_uses_nothing_of_ours() -> None:
    lines = (CLIENT / "device.mjs").read_text("utf-8").splitlines()
    packages = set(json.loads((CLIENT / "package.json").read_text("utf-8"))["dependencies"])
    imported = {line.split('"')[1] for line in lines if line.startswith("import ")}
    assert {name for name in imported if not name.startswith("node:")} == packages
    assert len([line for line in lines if line.strip() and not line.strip().startswith("//")]) <= 220
