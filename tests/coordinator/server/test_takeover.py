"""Several coordinators of one federation, on one home or on one database from several: nothing is written over."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from coordinator import config
from coordinator.config import read_base_model
from coordinator.config.changes import settings_of
from coordinator.identity.home import Home
from coordinator.rounds import State
from coordinator.server.service import Service
from coordinator.store import Database
from edge_sdk.errors import ConfigurationError, HomeInUse, StoreUnavailable, Superseded
from edge_sdk.transport import OnTrouble
from edge_sdk.transport.memory import MemoryTransport
from edge_sdk.wire.messages import Committed, Join, RoundDone, RoundStart
from tests.coordinator.adapters import BASE_ID, random_adapter
from tests.coordinator.federations import profile as made_profile
from tests.coordinator.federations import started
from tests.coordinator.played import DEADLINE, Devices, federation
from tests.coordinator.words import words
from tests.integration.coordinators import Coordinator
from tests.integration.devices import Device, profile


def twin(folder: Path, path: Path) -> Path:
    """The same federation on another machine: a home of its own, with the same key, database and blobs."""
    loaded = config.load(path)
    folder.mkdir()
    shutil.copy(path.parent / "impasto.json", folder)
    shared = f'database = "{loaded.database}"\nblobs = "{loaded.blobs}"\n'
    (folder / path.name).write_text(shared + path.read_text())
    config.load(folder / path.name).home.mkdir()
    shutil.copy(loaded.home / "keys.json", config.load(folder / path.name).home)
    return folder / path.name


def test_a_second_one_on_a_home_goes_on_when_the_first_has_given_way(url: str, tmp_path: Path) -> None:
    path = federation(tmp_path, url, 2)
    first, devices = Coordinator(path), Devices(url)
    first.wait_for("coordinator_started")
    devices.join("a", "b")
    devices.hear(RoundStart, {"a", "b"})
    half_written = Path(config.load(path).blobs) / ".x.tmp"  # the first one is writing a blob
    half_written.touch()
    waiting = Service(config.load(path))
    assert half_written.exists()
    waiting.close()
    second = Coordinator(path)
    first.join(Superseded)
    second.wait_for("coordinator_started")
    assert f"process {os.getpid()} on " in second.named("home_awaited")[0]["holder"]
    assert not half_written.exists()
    devices.say("a", Join(profile=profile("apples", 0)))
    assert devices.hear(RoundStart, {"a"})[0].round == 1
    assert second.service.state.devices.keys() == {"a", "b"}
    second.stop()


def test_one_that_does_not_give_way_is_named(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = federation(tmp_path, url, 2)
    hanging = Home(config.load(path).home, "tastes")
    monkeypatch.setattr("coordinator.server.takeover._GIVE_WAY", 0.2)
    with pytest.raises(HomeInUse, match=rf"tastes\.coordinator open \(process {os.getpid()} on .*, since .*\)"):
        Service(config.load(path)).run()
    hanging.close()
    Service(config.load(path)).close()


def test_it_gives_way_also_where_its_disk_is_full(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = federation(tmp_path, url, 2)
    first = Coordinator(path)
    first.wait_for("coordinator_started")

    def full(*_: object) -> None:
        raise StoreUnavailable("no room")

    monkeypatch.setattr(Database, "note_epoch", full)
    second = Coordinator(path)
    first.join(Superseded)
    assert first.named("store_unavailable")
    second.wait_for("coordinator_started")
    second.stop()


def test_a_stop_while_it_waits_is_heard(url: str, tmp_path: Path) -> None:
    path = federation(tmp_path, url, 2)
    hanging = Home(config.load(path).home, "tastes")
    waiting = Coordinator(path)
    waiting.wait_for("home_awaited")
    waiting.stop()
    hanging.close()


def test_one_that_connects_late_goes_on_from_what_the_first_has_done(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, it wrote its old state over the new one, and ended both for good."""
    path = federation(tmp_path, url, 2)
    first, devices = Coordinator(path), Devices(url)
    first.wait_for("coordinator_started")
    elsewhere, may_connect = twin(tmp_path / "other", path), threading.Event()
    connect = MemoryTransport.connect

    def late(transport: MemoryTransport, deadline: float, on_trouble: OnTrouble | None = None) -> None:
        assert may_connect.wait(DEADLINE)
        connect(transport, deadline, on_trouble)

    with monkeypatch.context() as patched:
        patched.setattr(MemoryTransport, "connect", late)
        second = Coordinator(elsewhere)
        assert second.service.state == State()
        devices.join("a", "b")
        devices.hear(RoundStart, {"a", "b"})
        for i, name in enumerate(("a", "b")):
            devices.offer(name, random_adapter(i))
        devices.hear(RoundDone, {"a", "b"})
        devices.hear(RoundStart, {"a", "b"})
        may_connect.set()
        second.wait_for("coordinator_started")
    assert second.named("coordinator_started")[0]["round"] == 1
    first.join(Superseded)
    devices.say("a", Join(profile=profile("apples", 0)))
    assert devices.hear(RoundStart, {"a"})[0].round == 2
    second.stop()
    again = Coordinator(elsewhere)
    again.wait_for("coordinator_started")
    again.stop()


def test_an_earlier_life_writes_nothing_any_more(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'c.sqlite'}"
    first, second = (Database(address, "stickers", BASE_ID) for _ in range(2))
    first.begin(first.next_epoch())
    first.save(started().state)
    ours = second.next_epoch()
    first.save(started().state, traffic=(1, 1))
    second.begin(ours)
    state = second.load()
    assert state == started().state
    for write in (
        lambda: first.save(State(), traffic=(2, 2)),
        lambda: first.save(State(), profiles={"a1": made_profile()}),
        lambda: first.put_settings({}, bytes(32)),
        first.check,
    ):
        with pytest.raises(Superseded, match=f"start {ours}"):
            write()
    assert (second.load(), second.traffic(), second.profiles()) == (state, (1, 1), {})
    second.check()
    second.save(state)
    first.close()
    second.close()


def test_of_two_with_the_same_number_one_begins(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'c.sqlite'}"
    first, second = (Database(address, "stickers", BASE_ID) for _ in range(2))
    epoch = max(first.next_epoch(), second.next_epoch())
    first.begin(epoch)
    with pytest.raises(Superseded):
        second.begin(epoch)
    first.close()
    second.close()


def test_one_that_cannot_connect_takes_nothing_over(url: str, tmp_path: Path) -> None:
    path = federation(tmp_path, url, 2)
    first, devices = Coordinator(path), Devices(url)
    first.wait_for("coordinator_started")
    elsewhere = twin(tmp_path / "other", path)
    elsewhere.write_text(elsewhere.read_text().replace(url, "memory://nobody"))
    other = Coordinator(elsewhere)
    other._thread.join(60)
    assert type(other.error).__name__ == "BrokerUnreachable"
    devices.join("a", "b")
    devices.hear(RoundStart, {"a", "b"})
    devices.offer("a", random_adapter(1))
    devices.hear(Committed, {"a"})
    first.stop()


def test_a_key_that_devices_do_not_know_is_told(url: str, tmp_path: Path) -> None:
    path = federation(tmp_path, url, 2)
    Coordinator(path).stop()
    keys = config.load(path).home / "keys.json"
    keys.unlink()
    second = Coordinator(path)
    second.wait_for("coordinator_started")
    second.stop()
    (told,) = second.named("key_changed")
    assert told["before"] != told["now"]
    third = Coordinator(path)
    third.wait_for("coordinator_started")
    third.stop()
    assert third.named("key_changed") == []


def test_a_database_that_was_lost_deletes_no_blob(url: str, tmp_path: Path) -> None:
    path = federation(tmp_path, url, 2)
    coordinator, devices = Coordinator(path), Devices(url)
    coordinator.wait_for("coordinator_started")
    devices.join("a", "b")
    devices.hear(RoundStart, {"a", "b"})
    devices.offer("a", random_adapter(1))
    devices.hear(Committed, {"a"})
    coordinator.stop()
    loaded = config.load(path)
    for file in loaded.home.glob("coordinator.sqlite*"):
        file.unlink()
    with pytest.raises(ConfigurationError, match="move the blobs away"):
        Service(loaded)
    assert len([p for p in Path(loaded.blobs).iterdir() if len(p.name) == 64]) == 1
    Path(loaded.blobs).rename(tmp_path / "old")
    Service(loaded).close()


def test_two_federations_do_not_share_a_blob_store(url: str, tmp_path: Path) -> None:
    path = federation(tmp_path, url, 2)
    Service(config.load(path)).close()
    other = tmp_path / "paintings.toml"
    shared = config.load(path).blobs
    other.write_text(f'blobs = "{shared}"\n' + path.read_text().replace('"tastes"', '"paintings"'))
    with pytest.raises(HomeInUse, match=r"'tastes'.*`blobs` of its own"):
        Service(config.load(other))


def test_the_settings_are_noted(url: str, tmp_path: Path) -> None:
    path = federation(tmp_path, url, 2)
    Coordinator(path).stop()
    loaded = config.load(path)
    database = Database(loaded.database, "tastes", BASE_ID)
    assert database.settings() == settings_of(loaded, read_base_model(loaded.description))
    database.close()


def test_the_settings_of_a_flat_file_are_read_by_their_tables(url: str, tmp_path: Path) -> None:
    """The database is of a version whose federation files had no tables."""
    path = federation(tmp_path, url, 2)
    path.write_text(f"{path.read_text()}[clustering]\nmethod = 'fused'\nclusters = 2\n[aggregation]\nmax_weight = 2\n")
    coordinator, devices = Coordinator(path, once=False), Devices(url)
    coordinator.wait_for("coordinator_started")
    for device in ("a", "b"):
        devices.say(device, Join(profile=profile("apples", 0)))
    coordinator.wait_for("round_started")
    coordinator.stop()
    loaded = config.load(path)
    tables = settings_of(loaded, read_base_model(loaded.description))
    flat = {key: value for key, value in tables.items() if "." not in key}
    flat |= {"aggregation": "product", "server_rank": 0, "carry": True, "server_optimiser": "none", "filter": "none"}
    flat |= {"server_learning_rate": 0.0, "server_momentum": None, "liars": 0.2, "clustering": "fused", "clusters": 3}
    flat |= {"choose": "significant", "recluster": "every", "min_cluster": 2, "interaction": "none", "rho": 0.1}

    def leave(settings: dict[str, Any]) -> None:
        with closing(sqlite3.connect(loaded.database_file or "")) as connection, connection:
            connection.execute("UPDATE starts SET settings = ?", (msgspec.msgpack.encode(settings),))

    leave(flat)
    again = Coordinator(path, once=False)
    again.wait_for("coordinator_started")
    again.stop()
    assert [event["changed"] for event in again.named("settings_changed")] == [{"clustering.clusters": [3, 2]}]
    leave({**flat, "carry": False})
    with pytest.raises(ConfigurationError, match=r"began with aggregation\.carry = False"):
        Service(loaded)


def test_a_start_in_2039_locks_nobody_out_for_ever(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, it left an epoch that no device could read, for good."""
    path, in_2039 = federation(tmp_path, url, 1), 2_180_000_000.0
    with monkeypatch.context() as patched:
        patched.setattr("coordinator.store.database.time.time", lambda: in_2039)
        first = Coordinator(path, once=False)
        first.wait_for("coordinator_started")
        first.stop()
    second = Coordinator(path)
    second.wait_for("coordinator_started")
    assert [event["epoch"] for event in second.named("coordinator_started")] == [in_2039 + 1]
    assert "behind" in second.named("clock_suspect")[0]["reason"]
    device = Device(0, url, tmp_path / "device-0").start().join()
    assert device.error is None
    assert [event["event"] for event in device.events].count("clock_suspect") == 1
    second.join()


@pytest.mark.parametrize(
    "event",
    [
        {"event": "settings_changed", "changed": {"rounds": [3, 5]}, "notes": ["[devices] join again"]},
        {"event": "clock_suspect", "reason": "[1970]"},
        {"event": "key_changed", "before": "aa", "now": "bb"},
        {"event": "home_awaited", "holder": "process 7 on [host]"},
        {"event": "home_unlocked", "home": "/[home]"},
        {"event": "store_unavailable", "work": "updates", "reason": "[Errno 28]"},
        {"event": "store_back", "work": "learning", "seconds": 3.4},
        {"event": "adapters_lost", "names": ["root"], "anew": True},
        {"event": "adapters_lost", "names": ["root"], "anew": False},
        {"event": "device_doubled", "device": "pi-4"},
        {"event": "device_forgotten", "device": "pi-4"},
    ],
)
def test_the_operator_reads_it_in_words(event: dict[str, Any]) -> None:
    text = words(event)
    assert event["event"] not in text
    for name, value in event.items():
        if isinstance(value, str) and name not in ("event", "work"):
            assert value in text
