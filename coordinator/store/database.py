"""The coordinator's facts in SQL: the state of the rounds, the devices' profiles, one row per counted update and round.

Of an update that was summed under masks nobody has seen anything: its row says that its device was in the sum.

SQLite in WAL mode with full sync by default, any other database by its SQLAlchemy URL. The state is a head and one row
a device, and only the rows of devices that have changed are written. One `save` is one transaction: the state and the
rows that explain it are written together or not at all.

Of several coordinators on one database only the newest instance writes. An instance takes the federation over by
`begin` with its epoch, and reads the state only then; from that moment every transaction of an older one fails.

An SQLite file that is deleted or moved while it is open still accepts writes, which nobody can find again. So its path
is checked before every transaction, and a missing file is restored from the open one.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import sqlalchemy as sa

from coordinator.rounds import (
    FORMAT,
    Head,
    Record,
    State,
    Table,
    from_first_form,
    head_of,
    records_of,
    restored,
    touched,
)
from coordinator.store.sketches import SqlSketches
from edge_sdk import durable
from edge_sdk.errors import ConfigurationError, StoreUnavailable, Superseded
from edge_sdk.wire import DeviceProfile, following, key_hash

_AT_ONCE = 500  # names in one statement
_NOBODY: Mapping[str, bytes] = MappingProxyType({})
_NO_PROFILES: Mapping[str, DeviceProfile | None] = MappingProxyType({})

_METADATA = sa.MetaData()
_FEDERATION = sa.Table(
    "federation",
    _METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("base_id", sa.String(128), nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("state", sa.LargeBinary, nullable=False),
    sa.Column("bytes_up", sa.BigInteger, nullable=False, default=0),
    sa.Column("bytes_down", sa.BigInteger, nullable=False, default=0),
)
_DEVICES = sa.Table(
    "devices",
    _METADATA,
    sa.Column("device", sa.String(64), primary_key=True),
    sa.Column("profile", sa.LargeBinary, nullable=False),
)
# What the state of the rounds has of each device.
_RECORDS = sa.Table(
    "records",
    _METADATA,
    sa.Column("device", sa.String(64), primary_key=True),
    sa.Column("record", sa.LargeBinary, nullable=False),
)
_UPDATES = sa.Table(
    "updates",
    _METADATA,
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("device", sa.String(64), primary_key=True),
    sa.Column("cluster", sa.Integer),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("pictures", sa.Integer, nullable=False),
    sa.Column("first_loss", sa.Float, nullable=False),
    sa.Column("last_loss", sa.Float, nullable=False),
    sa.Column("train_seconds", sa.Float, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
)


# Devices whose updates were summed under masks.
_SUMMED = sa.Table(
    "summed",
    _METADATA,
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("device", sa.String(64), primary_key=True),
    sa.Column("cluster", sa.Integer),
)


# Settings and key of the last start, to be compared with those of the next.
_STARTS = sa.Table(
    "starts",
    _METADATA,
    sa.Column("federation", sa.String(64), primary_key=True),
    sa.Column("settings", sa.LargeBinary, nullable=False),
    sa.Column("key", sa.LargeBinary, nullable=False),
)


# Epoch of the newest instance that was met elsewhere.
_MET = sa.Table(
    "met",
    _METADATA,
    sa.Column("federation", sa.String(64), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
)


# Devices that were erased: not their names, but the hashes of their keys, with which nobody joins any more.
_ERASED = sa.Table(
    "erased",
    _METADATA,
    sa.Column("key_hash", sa.String(64), primary_key=True),
    sa.Column("cleaned", sa.Boolean, nullable=False),
)


class Database:
    """The facts of one federation.

    Attributes:
        sketches: sketches of updates, in the same database.
        epoch: epoch of the instance that writes here: the one found on opening, until `begin`.

    Raises (on opening):
        ConfigurationError: the URL is invalid, the database cannot be opened, or it holds another federation.

    Raises (all methods):
        StoreUnavailable: the database cannot be read or written at present.

    Raises (all methods that write, except `note_epoch`; nothing is written then):
        Superseded: a newer instance has begun.
    """

    def __init__(self, url: str, name: str, base_id: str) -> None:
        self._name = name
        self._begun: int | None = None
        self._others: list[Callable[[sa.Connection, str], None]] = []
        self._stored: State | None = None  # the state in the database; None if it is not known, or of the first form
        try:
            parsed = sa.make_url(url)
            file = Path(parsed.database or "") if _is_file(parsed) else None
            if file is not None:
                durable.private_folder(file.parent)
                durable.private_file(file)
            self._engine = sa.create_engine(parsed)
            if parsed.get_backend_name() == "sqlite":
                sa.event.listen(self._engine, "connect", _durable)
            _METADATA.create_all(self._engine)
            self.sketches = SqlSketches(self._engine)
            self._enrol(base_id)
            self.epoch = self.latest_epoch()
            self._file = _OpenFile(file) if file is not None else None
        except (sa.exc.SQLAlchemyError, OSError, ImportError) as error:
            raise ConfigurationError(
                f"Cannot open the database {_shown(url)!r}: {error}. Correct `database`."
            ) from error

    def _enrol(self, base_id: str) -> None:
        with self._engine.begin() as connection:
            row = connection.execute(sa.select(_FEDERATION.c.name, _FEDERATION.c.base_id)).first()
            if row is None:
                state = msgspec.msgpack.encode(head_of(State()))
                values = {"name": self._name, "base_id": base_id, "epoch": 0, "state": state}
                connection.execute(_FEDERATION.insert().values(values))
            elif (row.name, row.base_id) != (self._name, base_id):
                raise ConfigurationError(
                    f"This database holds federation {row.name!r} of base model {row.base_id[:12]}…, not "
                    f"{self._name!r} of {base_id[:12]}…: give each federation a `home` of its own."
                )

    @property
    def engine(self) -> sa.Engine:
        """The engine, for other tables in this database."""
        return self._engine

    def erases_also(self, erase: Callable[[sa.Connection, str], None]) -> None:
        """Let the rows that other tables have of an erased device be deleted in the same transaction."""
        self._others.append(erase)

    def next_epoch(self) -> int:
        """Return the epoch for an instance that begins now. Nothing is written before `begin`.

        It grows with every start, and follows the clock, so that it also grows if the database was lost.
        """
        with self._reading() as connection:
            met = connection.execute(sa.select(_MET.c.epoch)).scalar() or 0
        return following(max(self.latest_epoch(), met), time.time())

    def begin(self, epoch: int) -> None:
        """Take the federation over, for the instance with that epoch; older instances cannot write from now on.

        May be repeated.

        Raises:
            Superseded: an instance with this epoch or a later one has begun meanwhile.
        """
        if self._begun == epoch:
            return
        with self._changing() as connection:
            taken = connection.execute(_FEDERATION.update().where(_FEDERATION.c.epoch < epoch).values(epoch=epoch))
            if not taken.rowcount:
                raise self._superseded(connection)
        self.epoch = self._begun = epoch

    def note_epoch(self, epoch: int) -> None:
        """Record the epoch of a newer instance: the next start takes a later one, whatever the clock says."""
        with self._changing() as connection:
            known = connection.execute(sa.select(_MET.c.epoch)).scalar() or 0
            connection.execute(_MET.delete())
            connection.execute(_MET.insert().values(federation=self._name, epoch=max(known, epoch)))

    def check(self) -> None:
        """Raise Superseded if this instance may not write any more."""
        with self._reading() as connection:
            if connection.execute(sa.select(_FEDERATION.c.epoch)).scalar_one() != self.epoch:
                raise self._superseded(connection)

    def latest_epoch(self) -> int:
        """Return the epoch of the instance that has taken the federation over last; 0 before the first."""
        with self._reading() as connection:
            return int(connection.execute(sa.select(_FEDERATION.c.epoch)).scalar_one())

    @contextmanager
    def _writing(self, **values: Any) -> Iterator[sa.Connection]:
        """A transaction of this instance that sets these columns of the federation."""
        with self._changing() as connection:
            # Always the first statement: its row lock makes a new instance's `begin` wait.
            own = _FEDERATION.update().where(_FEDERATION.c.epoch == self.epoch)
            if not connection.execute(own.values(epoch=self.epoch, **values)).rowcount:
                raise self._superseded(connection)
            yield connection

    @contextmanager
    def _changing(self) -> Iterator[sa.Connection]:
        """A transaction, on a file that was checked."""
        if self._file is not None and self._file.came_back():
            self._engine.dispose()  # its connections are to the deleted file
            raise StoreUnavailable(
                f"{_shown(self._engine.url)} was deleted or moved while it was open: it has been put back, with all "
                "that was in it."
            )
        try:
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.OperationalError as error:
            raise self._unavailable(error) from error

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except sa.exc.OperationalError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: sa.exc.OperationalError) -> StoreUnavailable:
        return StoreUnavailable(
            f"The database {_shown(self._engine.url)} cannot be used ({error.orig}): see whether it runs, whether its "
            "disk is there, has room, and may be written."
        )

    def _superseded(self, connection: sa.Connection) -> Superseded:
        epoch = connection.execute(sa.select(_FEDERATION.c.epoch)).scalar_one()
        return Superseded(
            f"A later start of the coordinator of {self._name!r} (start {epoch}, this is {self.epoch}) has taken its "
            "database over: nothing more is written by this one. Stop the one that is not wanted, then start again."
        )

    def load(self) -> State:
        """Return the last saved state.

        Raises:
            ConfigurationError: it was saved by a version with another format of states.
        """
        with self._reading() as connection:
            data = connection.execute(sa.select(_FEDERATION.c.state)).scalar_one()
            rows = connection.execute(sa.select(_RECORDS)).all()
        try:
            if _is_first_form(data):
                self._stored = None  # the next save writes all of it in the present form
                return from_first_form(data)
            head = msgspec.msgpack.decode(data, type=Head)
            if head.format != FORMAT:
                raise msgspec.ValidationError(f"form {head.format} of its state, not {FORMAT}")
            read = msgspec.msgpack.Decoder(Record).decode
            self._stored = restored(head, {row.device: read(row.record) for row in rows})
        except msgspec.DecodeError as error:
            raise ConfigurationError(
                f"The database of federation {self._name!r} was written by another version of Impasto ({error}): go on "
                "with that version to the last round, or give this federation a new `home`."
            ) from error
        return self._stored

    def settings(self) -> dict[str, Any] | None:
        """Return the settings of the federation file recorded by the last start; None if there are none."""
        with self._reading() as connection:
            data = connection.execute(sa.select(_STARTS.c.settings)).scalar()
        try:
            return None if data is None else msgspec.msgpack.decode(data, type=dict[str, Any])
        except msgspec.DecodeError:  # of another version, so that there is nothing to compare with
            return None

    def known_key(self) -> bytes | None:
        """Return the coordinator's public key at the last start; None if there was no start."""
        with self._reading() as connection:
            key: bytes | None = connection.execute(sa.select(_STARTS.c.key)).scalar()
        return key

    def put_settings(self, settings: Mapping[str, Any], key: bytes) -> None:
        """Record the settings and the public key of this start."""
        row = {"federation": self._name, "settings": msgspec.msgpack.encode(settings), "key": key}
        with self._writing() as connection:
            connection.execute(_STARTS.delete())
            connection.execute(_STARTS.insert().values(row))

    def traffic(self) -> tuple[int, int]:
        """Return the payload bytes received and sent until the last save, over all sessions."""
        with self._reading() as connection:
            up, down = connection.execute(sa.select(_FEDERATION.c.bytes_up, _FEDERATION.c.bytes_down)).one()
        return int(up), int(down)

    def save(
        self,
        state: State,
        updates: Iterable[dict[str, Any]] = (),
        traffic: tuple[int, int] = (0, 0),
        profiles: Mapping[str, DeviceProfile | None] = _NO_PROFILES,
        summed: Iterable[dict[str, Any]] = (),
        erased: Mapping[str, bytes] = _NOBODY,
    ) -> None:
        """Write what has changed since the last save or load, in one synced transaction.

        A second row for the same round and device violates the primary key, so no update can count twice unnoticed.

        Args:
            state: the state of the rounds.
            updates: rows of newly counted updates.
            traffic: payload bytes received and sent so far.
            profiles: new or changed profiles; None: to be deleted.
            summed: rows of devices whose updates have newly counted in a masked sum.
            erased: devices of which nothing is kept but the hash of their key, and these keys.
        """
        rows, in_sums, before = list(updates), list(summed), self._stored
        head = msgspec.msgpack.encode(head_of(state))
        names = touched(before, state)
        changed = records_of(state, names)
        with self._writing(state=head, bytes_up=traffic[0], bytes_down=traffic[1]) as connection:
            if before is None:
                connection.execute(_RECORDS.delete())
            _replace(connection, _RECORDS, "record", changed, known=before is not None)
            _replace(connection, _DEVICES, "profile", profiles)
            for device, key in erased.items():
                self._delete_rows(connection, device, key)
            if rows:
                connection.execute(_UPDATES.insert(), rows)
            if in_sums:
                connection.execute(_SUMMED.insert(), in_sums)
        self._stored = state

    def _delete_rows(self, connection: sa.Connection, device: str, key: bytes) -> None:
        connection.execute(_UPDATES.delete().where(_UPDATES.c.device == device))
        connection.execute(_SUMMED.delete().where(_SUMMED.c.device == device))
        for erase in self._others:
            erase(connection, device)
        connection.execute(_ERASED.delete().where(_ERASED.c.key_hash == key_hash(key)))
        connection.execute(_ERASED.insert().values(key_hash=key_hash(key), cleaned=False))

    def keys_of_erased(self) -> frozenset[str]:
        """Return the hashes of the keys of erased devices."""
        with self._reading() as connection:
            return frozenset(connection.execute(sa.select(_ERASED.c.key_hash)).scalars())

    def is_to_clean(self) -> bool:
        """Return True if files of an erased device may be left."""
        with self._reading() as connection:
            return connection.execute(sa.select(_ERASED.c.key_hash).where(~_ERASED.c.cleaned)).first() is not None

    def note_cleaned(self) -> None:
        """Record that no files of erased devices are left."""
        with self._writing() as connection:
            connection.execute(_ERASED.update().where(~_ERASED.c.cleaned).values(cleaned=True))

    def new_profiles(self, profiles: Mapping[str, DeviceProfile | None]) -> dict[str, DeviceProfile | None]:
        """Return the profiles that differ from those in the database: devices send theirs again and again."""
        known: dict[str, bytes] = {}
        with self._reading() as connection:
            for names in _batches(list(profiles)):
                rows = connection.execute(sa.select(_DEVICES).where(_DEVICES.c.device.in_(names)))
                known |= {row.device: row.profile for row in rows}
        return {
            name: profile
            for name, profile in profiles.items()
            if known.get(name) != (None if profile is None else msgspec.msgpack.encode(profile))
        }

    def profiles(self) -> dict[str, DeviceProfile]:
        """Return all profiles, by device."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(_DEVICES)).all()
        return {row.device: msgspec.msgpack.decode(row.profile, type=DeviceProfile) for row in rows}

    def updates(self) -> list[dict[str, Any]]:
        """Return one row per counted update, by round and device."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(_UPDATES).order_by(_UPDATES.c.round, _UPDATES.c.device))
            return [dict(row) for row in rows.mappings()]

    def counted(self) -> Counter[str]:
        """Return the number of counted updates by device, those in masked sums among them."""
        found: Counter[str] = Counter()
        with self._reading() as connection:
            for table in (_UPDATES, _SUMMED):
                rows = sa.select(table.c.device, sa.func.count().label("number")).group_by(table.c.device)
                found.update({row.device: row.number for row in connection.execute(rows)})
        return found

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()
        if self._file is not None:
            self._file.close()


class _OpenFile:
    """An SQLite file, with an open connection that keeps its content even if the file is deleted or moved."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hold()

    def _hold(self) -> None:
        self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # opens the file
        self._known = self._path.stat()

    def came_back(self) -> bool:
        """Restore the file if it is gone; return True if it was.

        Raises:
            StoreUnavailable: it cannot be restored, or another file is in its place.
        """
        try:
            found = self._path.stat()
        except FileNotFoundError:
            try:
                self._put_back()
            except (OSError, sqlite3.Error) as error:
                raise StoreUnavailable(f"{self._path} is gone, and cannot be put back: {error}.") from error
            return True
        except OSError as error:
            raise StoreUnavailable(f"{self._path} cannot be used: {error}.") from error
        if not os.path.samestat(found, self._known):
            raise StoreUnavailable(
                f"{self._path} is another file than the one that this coordinator has open, which was deleted or "
                "moved. Stop the coordinator and start it again to go on from that one, or move it away to have this "
                "one put back."
            )
        return False

    def _put_back(self) -> None:
        durable.private_folder(self._path.parent)
        copy = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}.tmp")
        try:
            durable.private_file(copy)
            self._connection.execute("VACUUM INTO ?", (str(copy),))
            for leftover in ("-wal", "-shm"):  # of the deleted file
                self._path.with_name(self._path.name + leftover).unlink(missing_ok=True)
            durable.move(copy, self._path)
        finally:
            copy.unlink(missing_ok=True)
        self.close()
        self._hold()

    def close(self) -> None:
        self._connection.close()


def newly_counted(before: State, after: State) -> list[dict[str, Any]]:
    """Return rows for the updates that count in `after` and not in `before`, sorted by device."""
    current = after.current
    if current is None or (before.current and current.updates is before.current.updates):
        return []
    same = before.current and before.current.number == current.number
    known = before.current.updates if same and before.current else {}
    new = (name for name in Table(current.updates).changed_from(known) if name in current.updates and name not in known)
    return [
        {
            "round": current.number,
            "device": name,
            "cluster": update.member.cluster,
            "sha256": update.manifest.sha256,
            **update.figures(),
            "size": update.manifest.size,
        }
        for name in sorted(new)
        for update in [current.updates[name]]
    ]


def newly_summed(before: State, after: State) -> list[dict[str, Any]]:
    """Return rows for the devices whose updates count in masked sums, sorted by device.

    Those of the round that has closed between the two states; none if none has.
    """
    closed = before.current
    if closed is None or closed.masking is None or after.round < closed.number:
        return []
    return [
        {"round": closed.number, "device": name, "cluster": closed.cohort[name].cluster}
        for name in sorted(closed.summed)
        if (known := after.devices.get(name)) and known.trace is not before.devices[name].trace
    ]


def _is_first_form(data: bytes) -> bool:
    """Return True for a state in one piece, which is a map; a head is an array."""
    return data[:1] == b"\xde" or b"\x80" <= data[:1] <= b"\x8f"


def _replace(
    connection: sa.Connection,
    table: sa.Table,
    column: str,
    values: Mapping[str, msgspec.Struct | None],
    *,
    known: bool = True,
) -> None:
    """Write values into rows by device, and delete the rows of those that are None.

    Args:
        connection: the transaction.
        table: a table with rows by device.
        column: the column of the encoded values.
        values: the values, by device.
        known: False if the table is known to have none of these rows.
    """
    if known:
        for names in _batches(list(values)):
            connection.execute(table.delete().where(table.c.device.in_(names)))
    rows = [{"device": n, column: msgspec.msgpack.encode(v)} for n, v in values.items() if v is not None]
    if rows:
        connection.execute(table.insert(), rows)


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the names in parts that one statement may have."""
    for first in range(0, len(names), _AT_ONCE):
        yield names[first : first + _AT_ONCE]


def _is_file(url: sa.URL) -> bool:
    """Return True if a database URL names an SQLite file by its path."""
    name = url.database or ""
    return url.get_backend_name() == "sqlite" and name not in ("", ":memory:") and not name.startswith("file:")


def _shown(url: str | sa.URL) -> str:
    """Return a database's URL without its password."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return str(url)


def _durable(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
