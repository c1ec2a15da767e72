"""The store: one contract for all blob stores, then the database."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import msgspec
import pytest
import sqlalchemy as sa

from coordinator.rounds import FORMAT, State, head_of
from coordinator.store import Database, MemoryBlobs, StoredBlobs, open_blobs
from edge_sdk.errors import BlobLost, ConfigurationError, HomeInUse, StoreUnavailable, TransferError
from tests.coordinator.federations import BASE_ID, profile, started, stored

Opener: TypeAlias = Callable[[], StoredBlobs]


@pytest.fixture(params=["a folder", "a file system of fsspec", "memory"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens one and the same store, again and again."""
    if request.param == "memory":
        store = MemoryBlobs()
        return lambda: store
    url = str(tmp_path / "blobs") if request.param == "a folder" else f"memory://{tmp_path.name}"
    return lambda: open_blobs(url)


class TestContract:
    """The contract that every blob store keeps."""

    @pytest.mark.parametrize("data", [b"adapter", b"", bytes(1 << 20)])
    def test_put_and_get(self, opened: Opener, data: bytes) -> None:
        sha256 = opened().put(data)
        assert sha256 == hashlib.sha256(data).hexdigest()
        assert opened().get(sha256) == data
        assert opened().put(data) == sha256
        assert opened().names() == {sha256}

    def test_what_is_missing_is_lost_by_name(self, opened: Opener) -> None:
        for blobs in (opened(), opened()):
            with pytest.raises(BlobLost) as caught:
                blobs.get("0" * 64)
            assert caught.value.sha256 == "0" * 64

    @pytest.mark.parametrize("name", ["../../etc/passwd", "", "0" * 63, "0" * 64 + "\n", "A" * 64, ".federation"])
    def test_what_is_no_hash_is_refused(self, opened: Opener, tmp_path: Path, name: str) -> None:
        file = tmp_path / "file"
        file.write_bytes(b"adapter")
        with pytest.raises(TransferError):
            opened().get(name)
        with pytest.raises(TransferError):
            opened().take(file, name)
        assert file.exists()
        assert opened().names() == set()

    def test_prune(self, opened: Opener) -> None:
        blobs = opened()
        assert blobs.prune({"0" * 64}) == 0
        kept, gone = blobs.put(b"kept"), blobs.put(b"gone")
        assert blobs.prune({kept, "0" * 64}) == 1
        assert blobs.get(kept) == b"kept"
        assert blobs.names() == {kept}
        with pytest.raises(BlobLost):
            blobs.get(gone)
        assert blobs.get(blobs.put(b"gone")) == b"gone"

    def test_names_and_whose_they_are(self, opened: Opener) -> None:
        blobs = opened()
        blobs.claim("tastes")
        assert blobs.names() == set()
        sha256 = blobs.put(b"adapter")
        assert blobs.names() == {sha256}
        blobs.prune(set())
        again = opened()
        again.claim("tastes")
        with pytest.raises(HomeInUse, match=r"'tastes'.*`blobs` of its own"):
            again.claim("paintings")
        again.claim("tastes")

    def test_a_file_is_moved_in(self, opened: Opener, tmp_path: Path) -> None:
        file, sha256 = tmp_path / "file", hashlib.sha256(b"adapter").hexdigest()
        for _ in range(2):
            file.write_bytes(b"adapter")
            opened().take(file, sha256)
            assert not file.exists()
            assert opened().get(sha256) == b"adapter"
        with pytest.raises(FileNotFoundError):
            opened().take(file, "0" * 64)
        assert opened().names() == {sha256}

    def test_sweeping_takes_no_blob(self, opened: Opener) -> None:
        sha256 = opened().put(b"adapter")
        opened().sweep()
        assert opened().get(sha256) == b"adapter"

    def test_threads_may_put_the_same(self, opened: Opener) -> None:
        blobs = opened()
        with ThreadPoolExecutor(4) as pool:
            names = set(pool.map(blobs.put, [b"adapter"] * 8))
        assert names == blobs.names() == {hashlib.sha256(b"adapter").hexdigest()}


class TestPlaces:
    """Behaviour of single blob stores."""

    def test_a_folder_that_disappears_is_made_again(self, tmp_path: Path) -> None:
        blobs = open_blobs(str(tmp_path / "blobs"))
        lost, file = blobs.put(b"adapter"), tmp_path / "file"
        shutil.rmtree(tmp_path / "blobs")
        with pytest.raises(BlobLost) as caught:
            blobs.get(lost)
        assert caught.value.sha256 == lost
        assert (blobs.names(), blobs.prune(set())) == (set(), 0)
        assert blobs.get(blobs.put(b"other")) == b"other"
        shutil.rmtree(tmp_path / "blobs")
        file.write_bytes(b"third")
        name = hashlib.sha256(b"third").hexdigest()
        blobs.take(file, name)
        assert blobs.get(name) == b"third"

    def test_a_folder_that_cannot_be_used_has_lost_nothing(self, tmp_path: Path) -> None:
        blobs = open_blobs(str(tmp_path / "blobs"))
        sha256 = blobs.put(b"adapter")
        (tmp_path / "blobs").rename(tmp_path / "away")
        (tmp_path / "blobs").write_text("something else")
        for attempt in (
            lambda: blobs.get(sha256), lambda: blobs.put(b"x"), blobs.names, lambda: blobs.prune(set()),
        ):  # fmt: skip
            with pytest.raises(StoreUnavailable, match=f"{tmp_path}/blobs cannot be used"):
                attempt()
        (tmp_path / "file").write_bytes(b"adapter")
        with pytest.raises(StoreUnavailable, match=f"{tmp_path}/blobs cannot be used"):
            blobs.take(tmp_path / "file", sha256)
        assert (tmp_path / "file").read_bytes() == b"adapter"

    def test_damage_is_noticed(self, tmp_path: Path) -> None:
        blobs = open_blobs(str(tmp_path))
        sha256 = blobs.put(b"adapter")
        (tmp_path / sha256).write_bytes(b"adaptor")
        with pytest.raises(TransferError, match="damaged"):
            blobs.get(sha256)

    def test_half_written_files_are_swept_up(self, tmp_path: Path) -> None:
        (tmp_path / ".xyz.tmp").write_bytes(b"half")
        blobs = open_blobs(str(tmp_path))
        assert list(tmp_path.iterdir()), "another process may be writing"
        blobs.sweep()
        assert list(tmp_path.iterdir()) == []

    def test_unknown_protocol(self) -> None:
        with pytest.raises(ConfigurationError, match="blobs"):
            open_blobs("carrier-pigeon://loft")


class TestDatabase:
    @pytest.fixture
    def address(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'deep' / 'c.sqlite'}"

    def test_state_survives(self, address: str) -> None:
        state = started().state
        first = Database(address, "stickers", BASE_ID)
        first.save(state, traffic=(10, 20))
        first.close()
        second = Database(address, "stickers", BASE_ID)
        assert second.load() == state
        assert second.traffic() == (10, 20)
        second.close()

    def test_only_what_changed_is_written(self, address: str) -> None:
        """The whole state was written for each event: 5.2 MB with 10,000 devices."""
        machine, database = started(), Database(address, "stickers", BASE_ID)
        database.save(machine.state)
        written: list[str] = []
        sa.event.listen(
            database.engine, "before_cursor_execute",
            lambda c, cursor, statement, values, context, many: written.append(f"{statement} {values}"),
        )  # fmt: skip
        machine(stored("a2", 1))
        database.save(machine.state)
        assert any("records" in statement for statement in written)
        assert not any("'a1'" in statement or "'b1'" in statement for statement in written)
        assert Database(address, "stickers", BASE_ID).load() == machine.state
        database.close()

    def test_a_state_of_the_first_form_goes_on_in_the_present_one(self, address: str) -> None:
        """The first form was one piece, in the row of the federation."""
        machine = started()
        machine(stored("a1", 1))
        file = Path(__file__).parents[1] / "data" / "state-1.msgpack"
        database = Database(address, "stickers", BASE_ID)
        with database.engine.begin() as connection:
            connection.execute(sa.text("UPDATE federation SET state = :state"), {"state": file.read_bytes()})
        state = database.load()
        assert state == machine.state
        database.save(state)
        database.close()
        again = Database(address, "stickers", BASE_ID)
        assert again.load() == machine.state
        with again.engine.connect() as connection:
            rows = connection.execute(sa.text("SELECT count(*) FROM records")).scalar()
            kept = connection.execute(sa.text("SELECT state FROM federation")).scalar()
        assert rows == len(state.devices)
        with pytest.raises(msgspec.ValidationError):  # so an earlier version refuses it, and loses nothing
            msgspec.msgpack.decode(kept, type=State)
        again.close()

    def test_epochs_grow(self, address: str) -> None:
        epochs = []
        for _ in range(3):
            database = Database(address, "stickers", BASE_ID)
            epochs.append(database.next_epoch())
            assert database.next_epoch() in (epochs[-1], epochs[-1] + 1), "nothing is taken over yet"
            database.begin(epochs[-1])
            database.close()
        assert epochs == sorted(set(epochs))
        assert epochs[0] > 1_700_000_000, "a database that was lost must not begin again below what a broker retains"

    def test_an_update_cannot_be_written_twice_and_a_failed_save_changes_nothing(self, address: str) -> None:
        database = Database(address, "stickers", BASE_ID)
        machine = started()
        machine(stored("a1", 1))
        row = {
            "round": 1,
            "device": "a1",
            "cluster": None,
            "sha256": "0" * 64,
            "pictures": 10,
            "first_loss": 1.0,
            "last_loss": 0.5,
            "train_seconds": 1.0,
            "size": 100,
        }
        database.save(machine.state, [row])
        machine(stored("a2", 1))
        with pytest.raises(sa.exc.IntegrityError):
            database.save(machine.state, [row])
        assert list(database.load().current.updates) == ["a1"]  # type: ignore[union-attr]
        assert database.updates() == [row]
        database.close()

    def test_profiles(self, address: str) -> None:
        database = Database(address, "stickers", BASE_ID)
        database.save(State(), profiles={"a1": profile(pictures=3), "a2": profile(), "a3": profile()})
        database.save(State(), profiles={"a1": profile(pictures=4), "a3": None})
        assert database.profiles() == {"a1": profile(pictures=4), "a2": profile()}
        said = {"a1": profile(pictures=4), "a2": profile(pictures=5), "a3": None, "a4": profile()}
        assert database.new_profiles(said) == {"a2": profile(pictures=5), "a4": profile()}
        database.close()

    def test_an_erased_device_is_counted_nowhere(self, address: str) -> None:
        database = Database(address, "stickers", BASE_ID)
        database.save(State(), summed=[{"round": 1, "device": device, "cluster": None} for device in ("a1", "a2")])
        database.save(State(), erased={"a1": b"key"})
        assert database.counted() == {"a2": 1}
        assert len(database.keys_of_erased()) == 1
        database.close()

    def test_another_federation_is_refused(self, address: str) -> None:
        Database(address, "stickers", BASE_ID).close()
        for name, base_id in (("paintings", BASE_ID), ("stickers", "c" * 64)):
            with pytest.raises(ConfigurationError, match="home"):
                Database(address, name, base_id)

    @pytest.mark.parametrize("form", ["damaged", "later"])
    def test_a_state_of_another_version_is_refused(self, address: str, form: str) -> None:
        database = Database(address, "stickers", BASE_ID)
        later = msgspec.structs.replace(head_of(State()), format=FORMAT + 1)
        state = {"phase": "training", "root": 7} if form == "damaged" else later
        with database._engine.begin() as connection:
            old = msgspec.msgpack.encode(state)
            connection.execute(sa.text("UPDATE federation SET state = :state"), {"state": old})
        with pytest.raises(ConfigurationError, match="another version of Impasto"):
            database.load()
        database.close()

    @pytest.mark.parametrize("wrong", ["no url", "sqlite:////proc/none/x.sqlite", "nosuchdb://x"])
    def test_a_wrong_address(self, wrong: str) -> None:
        with pytest.raises(ConfigurationError, match="database"):
            Database(wrong, "stickers", BASE_ID)

    def test_sqlite_is_durable(self, address: str) -> None:
        database = Database(address, "stickers", BASE_ID)
        with database._engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        database.close()
