"""Owners who ask that nothing of their device is kept: what goes, what is confirmed, what is refused."""

from __future__ import annotations

import queue
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from coordinator.identity import ERASED
from edge_sdk.transport.embedded import EmbeddedBroker
from edge_sdk.wire import (
    Committed,
    Forgotten,
    Greeter,
    Join,
    Refused,
    RoundDone,
    RoundStart,
    Welcome,
    confirms,
)
from tests.coordinator.adapters import random_adapter
from tests.coordinator.played import Devices, federation
from tests.integration.coordinators import Coordinator
from tests.integration.devices import profile

NAME, OTHERS = "forget-me", ("b", "c")
GREETER = Greeter(bytes(range(32)), "tastes", NAME)
JOIN = Join(profile=replace(profile("apples", 0), key=GREETER.public))


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path, broker: EmbeddedBroker) -> Path:
    return federation(tmp_path, broker.url, devices=3)


@pytest.fixture
def devices(broker: EmbeddedBroker) -> Iterator[Devices]:
    played = Devices(broker.url)
    yield played
    played.transport.close()


def rows_naming(coordinator: Coordinator, name: str) -> set[str]:
    """The tables with a row that names a device."""
    url = coordinator.service._federation.database
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as sql:
        tables = [row[0] for row in sql.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {
            table
            for table in tables
            for row in sql.execute(f"SELECT * FROM {table}")
            if any(name.encode() in (value if isinstance(value, bytes) else str(value).encode()) for value in row)
        }


def started(path: Path, devices: Devices) -> Coordinator:
    """A coordinator with three devices, whose first round is open."""
    coordinator = Coordinator(path, once=False)
    coordinator.wait_for("coordinator_started")
    devices.say(NAME, JOIN)
    devices.join(*OTHERS)
    devices.hear(RoundStart, {NAME, *OTHERS})
    return coordinator


def forget(devices: Devices, coordinator: Coordinator) -> Forgotten:
    devices.say(NAME, GREETER.forget())
    (said,) = devices.hear(Forgotten, {NAME})
    assert isinstance(said, Forgotten)
    assert confirms(said, coordinator.service._keys.signer.public, "tastes", NAME, GREETER.public)
    return said


def test_all_that_names_a_device_goes_and_the_round_goes_on(path: Path, devices: Devices) -> None:
    coordinator = started(path, devices)
    update = devices.offer(NAME, random_adapter(1, 4))
    devices.hear(Committed, {NAME})
    assert rows_naming(coordinator, NAME) == {"devices", "records", "updates"}
    blob = Path(coordinator.service._federation.blobs) / update.manifest.sha256
    assert blob.exists()
    forget(devices, coordinator)
    assert rows_naming(coordinator, NAME) == set()
    coordinator.wait_for("device_erased")
    for number, name in enumerate(OTHERS):
        devices.offer(name, random_adapter(10 + number, 4))
    done = devices.hear(RoundDone, set(OTHERS))
    assert [(said.accepted, said.updates) for said in done] == [(True, 2), (True, 2)]
    assert rows_naming(coordinator, NAME) == set()
    assert not blob.exists()
    coordinator.stop()


def test_nothing_of_it_comes_back(path: Path, devices: Devices) -> None:
    """Neither by what was sent before and comes late, nor with a restart."""
    coordinator = started(path, devices)
    devices.offer(NAME, random_adapter(1, 4), serve=False)
    said = forget(devices, coordinator)
    for again in range(2):
        if again:
            coordinator.stop()
            coordinator = Coordinator(path, once=False)
            coordinator.wait_for("coordinator_started")
        devices.say(NAME, JOIN)
        (refused,) = devices.hear(Refused, {NAME})
        assert (refused.code, refused.about) == (ERASED.code, "join")
        devices.offer(NAME, random_adapter(1, 4))
        assert forget(devices, coordinator) == said, "the same again has the same answer"
        assert rows_naming(coordinator, NAME) == set()
        assert not list((coordinator.service._home.folder / "spool").iterdir())
    coordinator.stop()


def test_a_device_with_another_key_is_not_forgotten(path: Path, devices: Devices) -> None:
    """Not by a Forget of the device that had its name before, nor by anybody else's."""
    coordinator = started(path, devices)
    forget(devices, coordinator)
    anew = Greeter(bytes(32), "tastes", NAME)
    devices.say(NAME, Join(profile=replace(JOIN.profile, key=anew.public)))
    devices.hear(Welcome, {NAME})
    stranger = Greeter(bytes([7]) * 32, "tastes", NAME)
    own = anew.forget()
    forged = (GREETER.forget(), stranger.forget(), replace(own, signature=bytes(64)), replace(own, key=stranger.public))
    for wish in forged:
        devices.say(NAME, wish)
        (refused,) = devices.hear(Refused, {NAME})
        assert (refused.code, refused.about) == ("SignatureInvalid", "forget")
    other = Greeter(bytes(range(32)), "tastes", "b").forget()
    devices.say("b", other)  # it has joined without a key
    assert [refused.code for refused in devices.hear(Refused, {"b"})] == ["SignatureInvalid"]
    assert {NAME, "b"} <= coordinator.service.state.devices.keys()
    devices.say(NAME, own)
    devices.hear(Forgotten, {NAME})
    assert NAME not in coordinator.service.state.devices
    coordinator.stop()


def test_a_device_that_is_not_known_is_confirmed_and_nothing_is_written(path: Path, devices: Devices) -> None:
    coordinator = Coordinator(path, once=False)
    coordinator.wait_for("coordinator_started")
    forget(devices, coordinator)
    assert coordinator.service._database.keys_of_erased() == frozenset()
    devices.say(NAME, JOIN)
    devices.hear(Welcome, {NAME})
    coordinator.stop()


def test_an_invitation_goes_and_a_revocation_stays(path: Path, devices: Devices) -> None:
    coordinator = started(path, devices)
    admissions = coordinator.service._admissions
    admissions.invite(NAME, 2e9)
    forget(devices, coordinator)
    assert rows_naming(coordinator, NAME) == set()
    admissions.revoke(NAME)
    forget(devices, coordinator)
    assert rows_naming(coordinator, NAME) == {"admissions"}
    coordinator.stop()


def test_a_killed_coordinator_confirms_nothing_that_it_has_not_saved(
    path: Path, devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies in the transaction; the next start knows the device as before, and the wish is sent again."""

    class KilledError(Exception):
        pass

    coordinator = started(path, devices)

    def die(*given: object) -> None:
        raise KilledError

    coordinator.service._database.erases_also(die)
    devices.say(NAME, GREETER.forget())
    coordinator.join(KilledError)
    assert not any(isinstance(message, Forgotten) for _, message in devices.said)
    again = Coordinator(path, once=False)
    again.wait_for("coordinator_started")
    assert rows_naming(again, NAME) == {"devices", "records"}
    forget(devices, again)
    assert rows_naming(again, NAME) == set()
    again.stop()


def test_an_update_that_is_being_stored_is_let_go(
    path: Path, devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = started(path, devices)
    ingest = coordinator.service._uploads._ingest
    store, held = ingest.put, queue.Queue[Any]()
    monkeypatch.setattr(ingest, "put", held.put)
    devices.offer(NAME, random_adapter(1, 4))
    arrival = held.get(timeout=60)
    forget(devices, coordinator)
    monkeypatch.setattr(ingest, "put", store)
    store(arrival)
    for number, name in enumerate(OTHERS):
        devices.offer(name, random_adapter(10 + number, 4))
    assert [said.updates for said in devices.hear(RoundDone, set(OTHERS))] == [2, 2]
    assert coordinator.named("store_unavailable") == []
    assert coordinator.service._uploads.counts == {"pulled": 0, "waiting": 0}
    coordinator.stop()


def test_files_that_a_kill_has_left_go_at_the_next_start(
    path: Path, devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator dies after the transaction, before it has deleted any file."""

    class KilledError(Exception):
        pass

    coordinator = started(path, devices)
    update = devices.offer(NAME, random_adapter(1, 4))
    devices.hear(Committed, {NAME})
    blob = Path(coordinator.service._federation.blobs) / update.manifest.sha256

    def die(*given: object) -> None:
        raise KilledError

    monkeypatch.setattr(coordinator.service._performer, "_accounts", (die,))
    devices.say(NAME, GREETER.forget())
    coordinator.join(KilledError)
    left = coordinator.service._home.folder / "spool" / f"{NAME}.{'0' * 64}"
    left.write_bytes(b"left")
    assert blob.exists()
    again = Coordinator(path, once=False)
    again.wait_for("coordinator_started")
    forget(devices, again)
    assert not blob.exists()
    assert not left.exists()
    assert not again.service._database.is_to_clean()
    again.stop()
