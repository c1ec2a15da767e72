"""A coordinator whose disk loses what it holds, or takes nothing for a while: it says so, and goes on."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from coordinator import config
from coordinator.store import Database
from edge_sdk.errors import Rejected, StoreUnavailable
from edge_sdk.wire.messages import Committed, Join, RoundDone, RoundStart, Welcome
from tests.coordinator.adapters import BASE_ID, random_adapter
from tests.coordinator.played import Devices, federation
from tests.coordinator.three_devices import ROUNDS, devices, whole
from tests.integration.coordinators import Coordinator
from tests.integration.devices import Device, profile


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.store.backoff.FIRST", 0.05)


@pytest.mark.parametrize("moment", ["round_started", "update_counted", "round_closed"])
def test_a_blobs_folder_that_disappears_ends_nothing(url: str, tmp_path: Path, moment: str) -> None:
    """It ended the coordinator before, and every later start."""
    path, blobs = whole(tmp_path, url)
    gone: list[bool] = []

    def note(event: dict[str, Any]) -> None:
        if event["event"] == moment and event["round"] == 2 and not gone:
            gone.append(True)
            shutil.rmtree(blobs, ignore_errors=True)  # the other thread may be writing

    coordinator = Coordinator(path, on_event=note)
    members = devices(url, tmp_path)
    for device in members:
        device.join()
        assert device.error is None
        assert device.result is not None
        assert device.result.finished
    coordinator.join()
    assert gone
    assert coordinator.named("adapters_lost")
    assert coordinator.service.state.round == ROUNDS


@pytest.mark.parametrize("reading", ["profiles", "traffic", "settings"])
def test_a_database_that_does_not_answer_at_the_start_is_waited_for(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reading: str
) -> None:
    path, _ = whole(tmp_path, url)
    before, asked = getattr(Database, reading), []

    def faulty(database: Database) -> Any:
        if database.epoch:  # it has begun
            asked.append(reading)
            if len(asked) == 1:
                raise StoreUnavailable("no answer")
        return before(database)

    monkeypatch.setattr(Database, reading, faulty)
    coordinator = Coordinator(path, once=False)
    coordinator.wait_for("coordinator_started")
    coordinator.stop()
    assert len(asked) >= 2
    assert [event["work"] for event in coordinator.named("store_unavailable")] == ["state"]


def test_nor_does_one_that_was_deleted_while_nobody_served(url: str, tmp_path: Path) -> None:
    path, blobs = whole(tmp_path, url)
    coordinator, played = Coordinator(path, once=False), Devices(url)
    coordinator.wait_for("coordinator_started")
    names = {"a", "b", "c"}
    played.join(*sorted(names))
    played.hear(RoundStart, names)
    for i, name in enumerate(sorted(names)):
        played.offer(name, random_adapter(i))
    played.hear(RoundDone, names)
    assert all(start.manifests for start in played.hear(RoundStart, names))
    coordinator.stop()
    shutil.rmtree(blobs)
    for life in (1, 2):
        again = Coordinator(path, once=False)
        again.wait_for("coordinator_started")
        played.say("a", Join(profile=profile("apples", 0)))
        (start,) = played.hear(RoundStart, {"a"})
        assert (start.round, start.manifests) == (2, [])
        again.stop()
        lost = [event["names"] for event in again.named("adapters_lost")]
        assert lost == ([["root"]] if life == 1 else [])


def test_after_the_end_devices_keep_what_they_have_until_it_is_restored(url: str, tmp_path: Path) -> None:
    path, blobs = whole(tmp_path, url)
    coordinator = Coordinator(path)
    members = devices(url, tmp_path)
    for device in members:
        assert device.join().error is None
    coordinator.join()
    home = tmp_path / "device-0"
    before = {file.name: file.read_bytes() for file in home.glob("*.safetensors")}
    assert before
    blobs.rename(tmp_path / "backup")
    again = Coordinator(path, once=False)
    again.wait_for("adapters_lost")
    back = Device(0, url, home).start().join()
    assert isinstance(back.error, Rejected)
    assert "AdaptersLost" in str(back.error)
    assert "restore it from a backup" in str(back.error)
    assert {file.name: file.read_bytes() for file in home.glob("*.safetensors")} == before
    shutil.copytree(tmp_path / "backup", blobs, dirs_exist_ok=True)
    assert Device(0, url, home).start().join().error is None
    again.stop()


def test_a_store_that_is_away_for_a_while_costs_nothing(url: str, tmp_path: Path) -> None:
    path, blobs = whole(tmp_path, url)
    disk, in_its_place = tmp_path / "disk", tmp_path / "in its place"
    disk.mkdir()
    in_its_place.write_text("no folder")
    blobs.parent.mkdir(parents=True, exist_ok=True)
    blobs.symlink_to(disk)
    seen: list[str] = []

    def mount(what: Path) -> None:
        """In one step, as another thread may be writing there."""
        (tmp_path / "next").symlink_to(what)
        (tmp_path / "next").replace(blobs)

    def note(event: dict[str, Any]) -> None:
        if event["event"] == "update_counted" and event["round"] == 2 and not seen:
            mount(in_its_place)
        elif event["event"] == "store_unavailable":
            mount(disk)
        else:
            return
        seen.append(event["event"])

    coordinator = Coordinator(path, on_event=note)
    for device in devices(url, tmp_path):
        assert device.join().error is None
        assert device.trained == [1, 2, 3], "once each"
    coordinator.join()
    assert seen[:2] == ["update_counted", "store_unavailable"]
    assert coordinator.named("adapters_lost") == []
    assert coordinator.named("round_failed") == []


def test_so_does_a_database_that_cannot_be_written(url: str, tmp_path: Path) -> None:
    path = federation(tmp_path, url, 2)
    coordinator, played = Coordinator(path), Devices(url)
    coordinator.wait_for("coordinator_started")
    played.join("a", "b")
    played.hear(RoundStart, {"a", "b"})
    file = config.load(path).database.removeprefix("sqlite:///")
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        played.offer("a", random_adapter(1))
        coordinator.wait_for("store_unavailable")
        assert not [message for _, message in played.said if isinstance(message, Committed)], "nothing is promised"
        other.execute("ROLLBACK")
    played.hear(Committed, {"a"})
    assert file in coordinator.named("store_unavailable")[0]["reason"]
    coordinator.stop()


@pytest.mark.parametrize("how", ["deleted", "moved", "home"])
def test_a_database_that_disappears_while_it_is_open_is_put_back(url: str, tmp_path: Path, how: str) -> None:
    """Before, all work went on and was acknowledged, and was gone at the next start."""
    path, _ = whole(tmp_path, url)
    file = Path(config.load(path).database.removeprefix("sqlite:///"))
    gone: list[bool] = []

    def note(event: dict[str, Any]) -> None:
        if event["event"] != "round_started" or event["round"] != 2 or gone:
            return
        gone.append(True)
        if how == "home":
            shutil.rmtree(file.parent)
        for part in () if how == "home" else file.parent.glob(f"{file.name}*"):
            part.unlink() if how == "deleted" else part.rename(tmp_path / part.name)

    coordinator = Coordinator(path, on_event=note)
    for device in devices(url, tmp_path):
        device.join()
        assert device.error is None
    coordinator.join()
    assert gone
    assert "put back" in coordinator.named("store_unavailable")[0]["reason"]
    again = Coordinator(path)
    again.wait_for("coordinator_started")
    assert again.service.state.round == ROUNDS
    assert again.service.state.devices.keys() == coordinator.service.state.devices.keys()
    again.stop()


def test_another_database_in_its_place_is_told(url: str, tmp_path: Path) -> None:
    path = federation(tmp_path, url, 2)
    coordinator, played = Coordinator(path), Devices(url)
    coordinator.wait_for("coordinator_started")
    file = Path(config.load(path).database.removeprefix("sqlite:///"))
    shutil.copy(file, tmp_path / "backup")
    (tmp_path / "backup").replace(file)
    played.say("a", Join(profile=profile("apples", 0)))
    coordinator.wait_for("store_unavailable")
    assert "is another file" in coordinator.named("store_unavailable")[0]["reason"]
    file.unlink()
    played.hear(Welcome, {"a"})
    coordinator.stop()
    assert Database(f"sqlite:///{file}", "tastes", BASE_ID).load().devices.keys() == {"a"}


@pytest.mark.parametrize("what", ["spool", "keys.json", "coordinator.lock"])
def test_other_parts_of_the_home_may_disappear(url: str, tmp_path: Path, what: str) -> None:
    path, _ = whole(tmp_path, url)
    lost = config.load(path).home / what

    def note(event: dict[str, Any]) -> None:
        if event["event"] == "round_started":
            shutil.rmtree(lost) if lost.is_dir() else lost.unlink(missing_ok=True)

    coordinator = Coordinator(path, on_event=note)
    for device in devices(url, tmp_path):
        assert device.join().error is None
    coordinator.join()
