"""The command line, apart from serving (tests/integration/test_federation.py)."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from coordinator import config
from coordinator.cli import app, main
from coordinator.identity.home import Home
from coordinator.store import Database
from edge_sdk.transport import Settings, Transport, create
from edge_sdk.transport.memory import MemoryBroker
from tests.coordinator.config.test_config import write_bundle

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; returns its exit code and what it said."""

    def call(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        out, err = capsys.readouterr()
        return int(end.value.code or 0), " ".join((out + err).split())

    return call


def test_init_writes_a_file_that_loads_and_never_overwrites(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "stickers.toml"
    assert run("init", str(path), "--bundle", "my bundle")[0] == 0
    assert config.load(path).name == "stickers"
    path.write_text("mine")
    code, said = run("init", str(path))
    assert code == 1
    assert "exists already" in said
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("file", "name"), [("größe.toml", "grosse"), ("my pictures!.toml", "my-pictures"), (f"{'x' * 80}.toml", "x" * 64)]
)
def test_init_makes_a_name_of_any_file(run: Run, tmp_path: Path, file: str, name: str) -> None:
    path = tmp_path / file
    code, said = run("init", str(path), "--bundle", 'a "bundle" 🦊\x7f', "--broker", "mqtt://b")
    assert code == 0
    assert f"for federation {name!r}" in said
    assert (config.load(path).name, config.load(path).bundle.name) == (name, 'a "bundle" 🦊\x7f')


def test_init_says_where_no_name_can_be_made(run: Run, tmp_path: Path) -> None:
    code, said = run("init", str(tmp_path / "写真.toml"))
    assert code == 1
    assert said.startswith("ConfigurationError: No federation's name can be made of '写真'")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_cannot_stand_in_a_topic_is_told_in_words(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "stickers.toml"
    path.write_text('name = "größe"\nbundle = "bundle"\n', encoding="utf-8")
    code, said = run("serve", str(path))
    assert code == 1
    assert "name = 'größe' cannot stand in a topic: use 1 to 64 letters" in said


def test_status_says_who_serves(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.telemetry.broker.DEADLINE", 0.2)  # there is no broker
    write_bundle(tmp_path / "bundle")
    path = tmp_path / "stickers.toml"
    path.write_text('name = "stickers"\nbundle = "bundle"\n')
    loaded = config.load(path)
    Database(loaded.database, "stickers", config.read_base_model(loaded.description).base_id).close()
    assert "nobody serves it" in run("status", str(path))[1]
    home = Home(loaded.home, "stickers")
    assert f"served by process {os.getpid()} on " in run("status", str(path))[1]
    home.close()


def test_an_invitation_by_a_clock_that_is_wrong_says_so(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(tmp_path / "bundle")
    path = tmp_path / "stickers.toml"
    path.write_text('name = "stickers"\nbundle = "bundle"\n')
    assert "may be wrong" not in run("invite", str(path), "pi-4")[1]
    monkeypatch.setattr("coordinator.cli.time.time", lambda: 60.0)
    code, said = run("invite", str(path), "pi-4")
    assert code == 0
    assert "Until when it holds may be wrong. This machine's clock was never set" in said


def test_errors_are_told_by_name_without_a_traceback(run: Run, tmp_path: Path) -> None:
    code, said = run("serve", str(tmp_path / "none.toml"))
    assert code == 1
    assert said.startswith("ConfigurationError: Cannot read the federation file")


def test_status_of_what_was_never_served(run: Run, tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    path = tmp_path / "stickers.toml"
    path.write_text('name = "stickers"\nbundle = "bundle"\n')
    code, said = run("status", str(path))
    assert code == 1
    assert "has not been served" in said
    assert not (tmp_path / "stickers.coordinator").exists()


def test_serving_without_a_broker_ends_with_its_name(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "stickers.toml"
    path.write_text('name = "stickers"\nslots = "impasto.json"\nbroker = "memory://nobody"\n')
    (write_bundle(tmp_path / "bundle") / "impasto.json").rename(tmp_path / "impasto.json")
    code, said = run("serve", str(path))
    assert code == 3
    assert said.startswith("BrokerUnreachable")


@pytest.mark.parametrize(("options", "expected"), [([], "coordin[A-Za-z0-9]{16}"), (["--client-id", "thing"], "thing")])
def test_its_client_id_is_random_unless_it_was_given_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], expected: str
) -> None:
    write_bundle(tmp_path / "bundle")
    path = tmp_path / "stickers.toml"
    path.write_text('name = "stickers"\nbundle = "bundle"\nbroker = "memory://nobody"\n')
    ids: list[str] = []

    def noted(settings: Settings) -> Transport:
        ids.append(settings.client_id)
        return create(settings)

    monkeypatch.setattr("coordinator.server.connection.create", noted)
    assert run("serve", str(path), *options)[0] == 3
    assert len(ids) == 1
    assert re.fullmatch(expected, ids[0])


def test_an_event_file_that_cannot_be_written_ends_with_its_name(run: Run, tmp_path: Path) -> None:
    """/dev/full takes no byte, like a full disk."""
    path = tmp_path / "stickers.toml"
    (write_bundle(tmp_path / "bundle") / "impasto.json").rename(tmp_path / "impasto.json")
    with MemoryBroker() as broker:
        path.write_text(f'name = "stickers"\nslots = "impasto.json"\nbroker = "{broker.url}"\n')
        code, said = run("serve", str(path), "--events", "/dev/full")
    assert code == 1
    assert "ConfigurationError: Cannot write events to /dev/full: [Errno 28]" in said


def test_a_database_that_fails_ends_with_its_name(run: Run, tmp_path: Path) -> None:
    """A table is gone."""
    path = tmp_path / "stickers.toml"
    (write_bundle(tmp_path / "bundle") / "impasto.json").rename(tmp_path / "impasto.json")
    file = tmp_path / "state.sqlite"
    path.write_text(f'name = "stickers"\nslots = "impasto.json"\ndatabase = "sqlite:///{file}"\n')
    loaded = config.load(path)
    Database(loaded.database, "stickers", config.read_base_model(loaded.description).base_id).close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DROP TABLE updates")
        connection.execute("CREATE TABLE updates (other INTEGER)")
        connection.commit()
    code, said = run("status", str(path))
    assert code == 6
    assert said.startswith("StoreUnavailable: The database sqlite:///")
    assert "no such column: updates.device" in said


def test_methods_are_listed_with_their_keys(run: Run) -> None:
    code, said = run("methods")
    assert code == 0
    for words in (
        "[aggregation]",
        "product (default)",
        "max_weight = 4.0, carry = true, server_rank = 0",
        "liars = 0.2",
    ):
        assert words in said
    assert "choose = silhouette, eigengap, significant" in said
    assert "ifca (simulate only)" in said


def test_what_has_no_effect_is_told_or_refused(run: Run, tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    path = tmp_path / "stickers.toml"
    text = 'name = "stickers"\nbundle = "bundle"\nbroker = "memory://nobody"\nstaleness = 0.1\n'
    path.write_text(f'{text}[clustering]\nmethod = "picture"\n')
    code, said = run("serve", str(path))
    assert code == 3
    assert "note: staleness: without effect, as late = 0" in said
    assert 'note: clustering.method: "picture" is as "fused", as the bundle has no image encoder' in said
    code, said = run("init", str(tmp_path / "new.toml"), "--broker", "mqtt://anna:h7#Kq@host")
    assert code == 1
    assert "%23" in said
    assert "h7" not in said
    assert "Kq" not in said
    assert not (tmp_path / "new.toml").exists()


def test_an_unforeseen_error_shows_no_local_variables() -> None:
    """Passwords are among them."""
    assert not app.pretty_exceptions_enable
