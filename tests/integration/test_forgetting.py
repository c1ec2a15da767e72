"""`forget`: both sides, over a real broker, with kills at every step of the device's."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edge_sdk import durable
from edge_sdk.cli import main
from edge_sdk.device import CANNOT_BE_TAKEN_BACK, forget
from edge_sdk.errors import (
    BrokerUnreachable,
    ConfigurationError,
    DeadlineExceeded,
    DeviceBusy,
    Rejected,
    UnknownFederation,
)
from edge_sdk.membership import Membership, farewell
from edge_sdk.membership.journal import Journal
from edge_sdk.transport import connect
from edge_sdk.transport.embedded import EmbeddedBroker
from edge_sdk.wire import Forgotten, Join, Signer, Topics, encode
from tests.integration.coordinators import Coordinator, write_federation
from tests.integration.devices import profile

TOPICS = Topics("tastes")
OF_FEDERATION = (
    "root.safetensors", "cluster.safetensors", "clusters/0.safetensors", "device_id", "weights.json",
    "code-coarse.json", "picture-code-coarse.json", "training-abc.checkpoint", ".root.safetensors.0123.tmp",
)  # fmt: skip
OWN = ("leaf.safetensors", "leaf.checkpoint", "prior/00.png")


class KilledError(BaseException):
    """As a kill: nothing that catches errors catches it."""


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as opened:
        yield opened


@pytest.fixture(scope="module")
def coordinator(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    running = Coordinator(write_federation(tmp_path_factory.mktemp("coordinator"), broker.url, devices=99), once=False)
    running.wait_for("coordinator_started")
    yield running
    running.stop()


def join(broker: EmbeddedBroker, home: Path, name: str) -> None:
    """A device joins, and ends its session; its home has a file of each kind."""

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "joined":
            membership.stop()

    def train(plan: object) -> Any:
        raise AssertionError("no round is opened")

    with Membership(broker.url, "tastes", name, profile("apples", 0), home, train, stop) as membership:
        membership.run()
    for file in (*OF_FEDERATION, *OWN):
        (home / file).parent.mkdir(exist_ok=True)
        (home / file).write_bytes(b"x")


@pytest.fixture(scope="module")
def joined(
    broker: EmbeddedBroker, coordinator: Coordinator, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    home = tmp_path_factory.mktemp("joined") / "home"
    join(broker, home, "copied")
    return home, "copied"


@pytest.fixture
def home(joined: tuple[Path, str], tmp_path: Path) -> Path:
    """A home that has joined, in which a test may do anything."""
    return Path(shutil.copytree(joined[0], tmp_path / "home"))


def left(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}


def retained(broker: EmbeddedBroker, name: str) -> list[bytes]:
    """All that the broker retains of a device; the coordinator's state comes behind it."""
    found, done = [], threading.Event()
    with closing(connect(broker.url, client_id="looking")) as client:
        client.subscribe(TOPICS.presence(name), lambda _, payload: found.append(payload))
        client.subscribe(TOPICS.coordinator_state, lambda *_: done.set())
        assert done.wait(30)
    return found


def test_a_device_is_forgotten_on_both_sides(broker: EmbeddedBroker, coordinator: Coordinator, tmp_path: Path) -> None:
    home = tmp_path / "home"
    join(broker, home, "one")
    assert retained(broker, "one")
    done = forget(home, broker.url, "tastes")
    assert (done.device, done.confirmed) == ("one", True)
    assert {str(file.relative_to(home)) for file in done.deleted} == {*OF_FEDERATION, "journal.sqlite"}
    assert left(home) == set(OWN)
    assert "one" not in coordinator.service.state.devices
    assert retained(broker, "one") == []
    join(broker, home, "one")
    assert not coordinator.service.state.devices["one"].erased, "it comes back as another device"
    with pytest.raises(ConfigurationError, match="holds nothing of a federation"):
        forget(tmp_path / "none", broker.url, "tastes")


@pytest.mark.parametrize("step", ["asked", "answered", *range(len(OF_FEDERATION) + 2)])
def test_a_killed_forget_is_finished_by_the_next_one(
    step: str | int, broker: EmbeddedBroker, coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, name, deleted = tmp_path / "home", f"killed-{step}", 0
    join(broker, home, name)

    def remove(path: Path) -> None:
        nonlocal deleted
        if deleted == step:
            raise KilledError
        deleted += 1
        path.unlink()

    def die(*given: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(durable, "remove", remove)
        if step == "asked":  # its message was sent, and no answer was read
            patched.setattr(farewell._Asking, "take", die)
        if step == "answered":
            patched.setattr(Journal, "confirm_farewell", die)
        if step == len(OF_FEDERATION) + 1:  # the journal is gone, and its lock is not
            patched.setattr(Path, "rmdir", die)
        with pytest.raises(KilledError):
            forget(home, broker.url, "tastes")
    if (home / "journal.sqlite").exists():
        with pytest.raises(ConfigurationError, match=r"Forgetting the device.*was begun"):
            join(broker, home, name)
    if isinstance(step, int) and (home / "journal.sqlite").exists():  # it knows that the coordinator has confirmed
        forget(home, "mqtt://127.0.0.1:1", "tastes")
    elif step != len(OF_FEDERATION) + 1:
        forget(home, broker.url, "tastes")
    assert left(home) == set(OWN)
    assert name not in coordinator.service.state.devices


@pytest.mark.parametrize("url", ["mqtt://127.0.0.1:1", None])
def test_the_home_of_another_federation_stays(url: str | None, home: Path) -> None:
    before = left(home)
    with pytest.raises(ConfigurationError, match=r"in federation 'tastes', not in 'paintings': nothing was deleted"):
        forget(home, url, "paintings", local_only=url is None)
    assert left(home) >= before


def test_without_an_answer_nothing_is_deleted_unless_asked_for(broker: EmbeddedBroker, home: Path) -> None:
    before = left(home)
    with EmbeddedBroker() as empty:
        for url, error in (("mqtt://127.0.0.1:1", BrokerUnreachable), (empty.url, UnknownFederation)):
            with pytest.raises(error, match=r"Nothing was deleted here.*--local-only"):
                forget(home, url, "tastes", answer=1.0)
            assert left(home) == before
        state = Signer(bytes(range(32)), "tastes")
        with closing(Journal(home / "journal.sqlite")) as own:
            own.trust(state.public)
        offline = state.state(online=False, epoch=2**40, base_id="b", level="plain")
        with closing(connect(empty.url, client_id="coordinator")) as client:
            client.publish(TOPICS.coordinator_state, encode(offline), retain=True)
            client.flush(10)
        with pytest.raises(DeadlineExceeded, match=r"is offline.*--local-only"):
            forget(home, empty.url, "tastes", answer=1.0)
    assert left(home) == before
    with pytest.raises(ConfigurationError, match="give one of the two"):
        forget(home, None, "tastes")
    done = forget(home, None, "tastes", local_only=True)
    assert (done.device, done.confirmed) == ("copied", False)
    assert left(home) == set(OWN)


def test_an_answer_of_somebody_else_is_not_believed(broker: EmbeddedBroker, home: Path) -> None:
    with EmbeddedBroker() as hostile, closing(connect(hostile.url, client_id="coordinator")) as client:
        signer = Signer(bytes(range(32)), "tastes")
        with closing(Journal(home / "journal.sqlite")) as journal:
            journal.trust(signer.public)
            key = journal.own_key()
        online = signer.state(online=True, epoch=2**40, base_id="b", level="plain")
        client.publish(TOPICS.coordinator_state, encode(online), retain=True)
        forger = Signer(bytes(32), "tastes")
        answers = [
            encode(forger.forgotten("copied", farewell.Greeter(key, "tastes", "copied").public)),
            encode(signer.forgotten("another", farewell.Greeter(key, "tastes", "copied").public)),
            encode(signer.forgotten("copied", bytes(32))),
            encode(Forgotten(key=bytes(32), signature=bytes(64))),
            b"garbage",
        ]

        def answer(_: str, payload: bytes) -> None:
            for said in answers:
                client.publish(TOPICS.control("copied", "down"), said)

        client.subscribe(TOPICS.control("copied", "up"), answer)
        before = left(home)
        with pytest.raises(DeadlineExceeded, match="has not answered"):
            forget(home, hostile.url, "tastes", answer=2.0)
        assert left(home) == before


def test_a_refusal_is_named(broker: EmbeddedBroker, coordinator: Coordinator, tmp_path: Path) -> None:
    """Somebody has joined in the device's name, with another key."""
    home = tmp_path / "home"
    join(broker, home, "refused")
    said = threading.Event()
    with closing(connect(broker.url, client_id="stranger")) as client:
        client.subscribe(TOPICS.control("refused", "down"), lambda *_: said.set())
        client.publish(
            TOPICS.control("refused", "up"), encode(Join(profile=replace(profile("boats", 1), key=bytes(32))))
        )
        assert said.wait(30)
    before = left(home)
    with pytest.raises(Rejected, match=r"another key.*Nothing was deleted"):
        forget(home, broker.url, "tastes")
    assert left(home) == before


def test_a_home_that_is_in_use_or_of_another_federation_stays(broker: EmbeddedBroker, home: Path) -> None:
    before = left(home)
    for local_only in (False, True):
        url = None if local_only else broker.url
        with pytest.raises(ConfigurationError, match="in federation 'tastes'"):
            forget(home, url, "paintings", local_only=local_only)
        with closing(Journal(home / "journal.sqlite")), pytest.raises(DeviceBusy):
            forget(home, url, "tastes", local_only=local_only)
    assert before <= left(home)


def test_a_damaged_journal_can_be_deleted_alone(home: Path) -> None:
    (home / "journal.sqlite").write_bytes(b"damaged")
    assert forget(home, None, "tastes", local_only=True).device is None
    assert left(home) == set(OWN)


class TestTheCommand:
    @pytest.fixture
    def run(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
        def run(*arguments: object) -> tuple[int, str, str]:
            monkeypatch.setattr("sys.argv", ["impasto", "forget", "-f", "tastes", *map(str, arguments)])
            with pytest.raises(SystemExit) as stopped:
                main()
            said = capsys.readouterr()
            return int(stopped.value.code or 0), said.out, said.err

        return run

    def test_asks_first(self, run: Any, home: Path) -> None:
        before = left(home)
        code, out, _ = run("--home", home, "--local-only")  # nobody answers
        assert code == 1
        assert f"Forget the device of {home} in 'tastes': delete the files here alone?" in out
        assert left(home) == before

    def test_says_what_it_has_done_and_what_cannot_be_undone(
        self, run: Any, broker: EmbeddedBroker, coordinator: Coordinator, tmp_path: Path
    ) -> None:
        home = tmp_path / "home"
        join(broker, home, "commanded")
        code, out, err = run("--home", home, "--broker", broker.url, "--yes")
        assert (code, err) == (0, "")
        told, deleted, undone = out.splitlines()
        assert told == "The coordinator of 'tastes' has confirmed that it keeps nothing of 'commanded'."
        assert "root.safetensors" in deleted
        assert undone == f"Not undone: {CANNOT_BE_TAKEN_BACK}."
        assert left(home) == set(OWN)

    def test_without_an_answer_it_says_what_to_do(self, run: Any, home: Path) -> None:
        before = left(home)
        code, _, err = run("--home", home, "--broker", "mqtt://127.0.0.1:1", "--yes", "--deadline", 1)
        assert code == 3
        (line,) = err.splitlines()
        assert line.startswith("error: ")
        assert "--local-only" in line
        assert left(home) == before
        code, out, _ = run("--home", home, "--local-only", "--yes")
        assert code == 0
        assert "was not asked: it keeps what it has of 'copied'" in out
        assert left(home) == set(OWN)

    def test_needs_a_broker_or_none(self, run: Any, home: Path) -> None:
        code, _, err = run("--home", home, "--yes")
        assert code == 1
        assert "give one of the two" in err
