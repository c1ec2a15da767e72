"""A device's journal: the state of its membership that must survive a restart, in one SQLite file.

    session      the epoch of the last session; the coordinator's trusted key, and its newest epoch and round
    owner        the owner of this home: the federation, and the device's name in it
    former_key   the keys that have vouched for the trusted one, each for the next
    work         every plan that the device was given, and its progress
    outbox       the update that was trained last, until the next one is
    transfer     contents that are being fetched or have come, with their manifests
    chunk        their chunks; the chunks that exist make the bitmap from which a transfer resumes
    ending       the step that ended the federation, until its adapters are put in place
    masked_sum   this device's part in a masked sum: its keys while it needs them, what it has agreed to, its vector
    answered     the last sum of a clustering that it has agreed to: the question, and who else was in it
    spent        the privacy budget that its answers with noise have spent in this federation
    choice       each set of centroids that it has chosen its cluster among
    own_key      the private key that signs this device's hellos
    farewell     the device's owner has asked that nothing of it is kept; and has the coordinator confirmed that?

Durability: `keep_update` and `receive` return when the data is synced (synchronous=FULL), because training is not
repeated afterwards, and the coordinator gets the acknowledgement "committed". The same holds for the session and the
progress of work. A chunk is written at once, but synced later with others (synchronous=NORMAL: at SQLite's next
checkpoint, every few megabytes, or with the next synced write). So a killed process loses no chunk; a power cut loses
some, which are pulled again. SQLite keeps the file itself sound in both cases.

There is one file per home, for one process at a time: a lock file beside it is held while it is open. Methods may be
called from any thread.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edge_sdk import durable
from edge_sdk.errors import ConfigurationError, DeviceBusy, JournalDamaged, JournalError, JournalTooNew
from edge_sdk.lockfile import LockFile
from edge_sdk.membership.rounds import Progress, Work
from edge_sdk.privacy import Answered, Spent
from edge_sdk.secure_aggregation import device
from edge_sdk.wire import Finished, Manifest, Offer, following, new_key

_T = TypeVar("_T", Offer, Manifest, Finished, Answered, Spent)

VERSION = 1
_APPLICATION = 0x494D504A  # "IMPJ", in the file's header
_MARKS = ("application_id", "user_version")
_BUSY = 5.0  # seconds to wait for another program that reads the file
_WORKS = 1000  # plans that are kept
_LOG_SIZE = 4 << 20  # bytes of the write-ahead log that stay allocated
_SCHEMA = """
CREATE TABLE session (
    one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, trusted_key BLOB,
    heard_epoch INTEGER NOT NULL, heard_round INTEGER NOT NULL
);
CREATE TABLE former_key (key BLOB PRIMARY KEY);
CREATE TABLE work (
    number INTEGER PRIMARY KEY, plan TEXT NOT NULL UNIQUE, round INTEGER NOT NULL, progress TEXT NOT NULL, offer BLOB
);
CREATE TABLE outbox (one INTEGER PRIMARY KEY CHECK (one = 1), plan TEXT NOT NULL, data BLOB NOT NULL, own BLOB);
CREATE TABLE transfer (sha256 TEXT PRIMARY KEY, manifest BLOB NOT NULL, whole INTEGER NOT NULL);
CREATE TABLE chunk (
    sha256 TEXT NOT NULL REFERENCES transfer ON DELETE CASCADE, number INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (sha256, number)
);
INSERT INTO session VALUES (1, 0, NULL, 0, 0);
"""
# Tables that are added to journals of earlier versions.
_LATER = (
    """CREATE TABLE IF NOT EXISTS owner (
        one INTEGER PRIMARY KEY CHECK (one = 1), federation TEXT NOT NULL, device TEXT NOT NULL
    )""",
    "CREATE TABLE IF NOT EXISTS ending (one INTEGER PRIMARY KEY CHECK (one = 1), step BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS masked_sum (one INTEGER PRIMARY KEY CHECK (one = 1), record BLOB, vector BLOB)",
    "CREATE TABLE IF NOT EXISTS answered (one INTEGER PRIMARY KEY CHECK (one = 1), record BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS spent (one INTEGER PRIMARY KEY CHECK (one = 1), record BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS choice (centroids BLOB PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS own_key (one INTEGER PRIMARY KEY CHECK (one = 1), private BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS farewell (one INTEGER PRIMARY KEY CHECK (one = 1), confirmed INTEGER NOT NULL)",
)


class Owner(msgspec.Struct, frozen=True):
    """Owner of a journal's home: the federation, and the device's name in it."""

    federation: str
    device: str


def read_owner(path: Path) -> Owner | None:
    """Owner of the journal in `path`; None if there is no journal, or it has no owner yet.

    Reads only, and raises, as `read_trusted_key`.
    """
    row = _read_row(path, "owner", "federation, device")
    return Owner(*row) if row else None


def _read_row(path: Path, table: str, columns: str) -> tuple[Any, ...] | None:
    """The row of a table of the journal in `path`; None without the journal, the table or the row.

    Reads only, and raises, as `read_trusted_key`.
    """
    if not path.is_file():
        return None
    with _named_errors(path), closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", _BUSY, uri=True)) as sql:
        there = "SELECT 1 FROM sqlite_schema WHERE name = ?"
        if _check_kind(sql, path) or not sql.execute(there, (table,)).fetchone():
            return None
        row: tuple[Any, ...] | None = sql.execute(f"SELECT {columns} FROM {table}").fetchone()
    return row


def read_trusted_key(path: Path) -> bytes | None:
    """The coordinator's key that the journal in `path` trusts; None if there is no journal, or no key yet.

    Reads only: it neither waits for a process that has the journal open, nor keeps that one waiting.

    Raises:
        JournalDamaged, JournalTooNew, JournalError: as `Journal`.
    """
    if not path.is_file():
        return None
    with _named_errors(path), closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", _BUSY, uri=True)) as sql:
        empty = _check_kind(sql, path)
        return None if empty else _trusted_key(sql)


def read_own_key(path: Path) -> bytes | None:
    """The private key that signs for the device of the journal in `path`; None if there is no journal, or no key yet.

    Reads only, and raises, as `read_trusted_key`.
    """
    row = _read_row(path, "own_key", "private")
    return bytes(row[0]) if row else None


def read_spent(path: Path) -> Spent:
    """The privacy budget that the device of the journal in `path` has spent; nothing if there is no journal.

    Reads only, and raises, as `read_trusted_key`.
    """
    row = _read_row(path, "spent", "record")
    return _decoded(path, row[0], Spent) if row else Spent()


class Journal:
    """The journal in `path`; `close` it after use.

    Raises (all methods; JournalTooNew on opening only):
        JournalDamaged: the file is no journal, or SQLite finds it damaged.
        JournalTooNew: it was written by a later version.
        DeviceBusy: it is open already, in another process or in this one (on opening); another program holds the file.
        JournalError: it cannot be written, for instance because the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        with ExitStack() as opened:
            try:
                self._held = LockFile(path.with_suffix(".lock"), in_use(path))
            except OSError as error:
                raise no_home(path.parent, error) from error
            opened.callback(self._held.release)
            try:
                durable.private_file(path)  # it holds keys
            except OSError as error:
                raise no_home(path.parent, error) from error
            with suppress(OSError):  # one of an earlier version, or of another user
                if path.is_file():
                    path.chmod(0o600)
            with _named_errors(path):
                # Autocommit: transactions are begun explicitly, after their synchronous mode is set.
                self._sql = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
                opened.callback(self._sql.close)
                self._open()
            opened.pop_all()

    def _open(self) -> None:
        sql = self._sql
        empty = _check_kind(sql, self._path)
        for pragma in ("page_size = 16384", "auto_vacuum = INCREMENTAL", "journal_mode = WAL", "foreign_keys = ON"):
            sql.execute(f"PRAGMA {pragma}")
        sql.execute(f"PRAGMA journal_size_limit = {_LOG_SIZE}")
        if empty:  # new, or left empty by a power cut
            marks = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {VERSION};"
            sql.executescript(f"PRAGMA synchronous = FULL; BEGIN IMMEDIATE; {_SCHEMA} {marks} COMMIT;")
        for table in _LATER:
            sql.execute(table)

    def close(self) -> None:
        """Close the file and release its lock. May be called again; other methods cannot be used afterwards."""
        with self._lock:
            self._sql.close()
            self._held.release()

    def check_owner(self, federation: str) -> None:
        """Raise ConfigurationError if this home belongs to another federation."""
        owner = self.owner
        if owner and owner.federation != federation:
            raise ConfigurationError(
                f"{self._path.parent} is the home of {owner.device!r} in federation {owner.federation!r}: its adapters "
                f"lie there, and its coordinator's key. Give {federation!r} a home of its own (`impasto join --home "
                "FOLDER`)."
            )

    def claim(self, federation: str, name: str) -> None:
        """Make this the home of that device in that federation.

        Updates that another device has trained here are forgotten, so that they are not sent again under the new name.
        """
        before = self.owner
        if before != Owner(federation, name):
            with self._writing(promised=True) as sql:
                if before is not None:
                    sql.execute("DELETE FROM outbox")
                    sql.execute("DELETE FROM work")
                    sql.execute("DELETE FROM masked_sum")
                    sql.execute("DELETE FROM answered")
                sql.execute("INSERT OR REPLACE INTO owner VALUES (1, ?, ?)", (federation, name))

    @property
    def owner(self) -> Owner | None:
        """Owner of this home; None if it has met no coordinator yet."""
        with self._reading() as sql:
            row = sql.execute("SELECT federation, device FROM owner").fetchone()
        return Owner(*row) if row else None

    def check_stays(self) -> None:
        """Raise ConfigurationError if the owner has asked that nothing of this device is kept."""
        if self.farewell is not None:
            raise ConfigurationError(
                f"Forgetting the device of {self._path.parent} was begun, and not finished: `impasto forget --home "
                f"{self._path.parent}` finishes it. After that the folder can be a new device's home."
            )

    @property
    def farewell(self) -> bool | None:
        """True if the coordinator has confirmed that it keeps nothing of this device; None if that was not asked."""
        with self._reading() as sql:
            row = sql.execute("SELECT confirmed FROM farewell").fetchone()
        return bool(row[0]) if row else None

    def begin_farewell(self) -> None:
        """Note that the coordinator is being asked: this device's key signs nothing else from now on."""
        with self._writing(promised=True) as sql:
            sql.execute("INSERT OR IGNORE INTO farewell VALUES (1, 0)")

    def confirm_farewell(self) -> None:
        """Note that the coordinator has confirmed."""
        with self._writing(promised=True) as sql:
            sql.execute("UPDATE farewell SET confirmed = 1")

    # session --------------------------------------------------------------------------------------------------------

    def next_epoch(self) -> int:
        """Store and return a new session's epoch, which is larger than all before, even if the journal was lost."""
        with self._writing(promised=True) as sql:
            (last,) = sql.execute("SELECT epoch FROM session").fetchone()
            epoch = following(int(last), time.time())
            sql.execute("UPDATE session SET epoch = ?", (epoch,))
        return epoch

    def own_key(self) -> bytes:
        """The private key that signs this device's hellos, 32 bytes; it is made at the first call."""
        with self._writing(promised=True) as sql:
            sql.execute("INSERT OR IGNORE INTO own_key VALUES (1, ?)", (new_key(),))
            (key,) = sql.execute("SELECT private FROM own_key").fetchone()
        if not isinstance(key, bytes) or len(key) != 32:
            raise _damaged(self._path, "the device's own key has no 32 bytes")
        return key

    @property
    def trusted_key(self) -> bytes | None:
        """The coordinator's public key that this device trusts; None before the first one."""
        with self._reading() as sql:
            return _trusted_key(sql)

    def trust(self, key: bytes) -> None:
        """Trust this key, and no other, from now on. A key that is new here resets the newest epoch and round."""
        with self._writing(promised=True) as sql:
            known = "SELECT 1 WHERE ? IN (SELECT trusted_key FROM session UNION SELECT key FROM former_key)"
            if not sql.execute(known, (key,)).fetchone():
                sql.execute("UPDATE session SET heard_epoch = 0, heard_round = 0")
                sql.execute("DELETE FROM former_key")
            sql.execute("UPDATE session SET trusted_key = ?", (key,))

    def follow(self, key: bytes) -> None:
        """Trust this key of the same coordinator, for which the trusted key has vouched."""
        with self._writing(promised=True) as sql:
            sql.execute("INSERT OR IGNORE INTO former_key SELECT trusted_key FROM session")
            sql.execute("UPDATE session SET trusted_key = ?", (key,))

    @property
    def heard(self) -> tuple[int, int]:
        """Epoch and round of the newest signed statement that was accepted from the coordinator."""
        with self._reading() as sql:
            epoch, round_ = sql.execute("SELECT heard_epoch, heard_round FROM session").fetchone()
        return int(epoch), int(round_)

    def note_heard(self, epoch: int, round_: int) -> None:
        """Store the newest epoch and round; older statements are refused from now on, even after a restart."""
        with self._writing(promised=True) as sql:
            sql.execute("UPDATE session SET heard_epoch = ?, heard_round = ?", (epoch, round_))

    # work and its update --------------------------------------------------------------------------------------------

    def begin(self, plan: str, round_: int) -> None:
        """Add a plan as begun; a plan that is known keeps its progress."""
        with self._writing(promised=True) as sql:
            sql.execute("INSERT OR IGNORE INTO work (plan, round, progress) VALUES (?, ?, 'begun')", (plan, round_))
            sql.execute("DELETE FROM work WHERE number <= (SELECT max(number) FROM work) - ?", (_WORKS,))

    def keep_update(self, plan: str, offer: Offer, data: bytes, own: bytes | None = None) -> None:
        """Store the update of a plan in place of the last one; the plan will not be trained again.

        own: the whole adapter of which the update is a part, if a factor of it stays at home.
        """
        with self._writing(promised=True) as sql:
            sql.execute(
                "INSERT INTO work (plan, round, progress, offer) VALUES (?, ?, 'trained', ?) ON CONFLICT (plan) DO "
                "UPDATE SET offer = excluded.offer, progress = iif(progress = 'committed', progress, 'trained')",
                (plan, offer.round, msgspec.msgpack.encode(offer)),
            )
            sql.execute("INSERT OR REPLACE INTO outbox VALUES (1, ?, ?, ?)", (plan, data, own))

    def note(self, plan: str, progress: Progress) -> None:
        """Store the progress of a plan. A committed plan stays committed, whatever comes later."""
        with self._writing(promised=True) as sql:
            sql.execute(
                "UPDATE work SET progress = ? WHERE plan = ? AND progress NOT IN ('committed', ?)",
                (progress, plan, progress),
            )

    def restate(self, plan: str, offer: Offer) -> None:
        """Replace the offer of the plan's update."""
        with self._writing(promised=True) as sql:
            encoded = msgspec.msgpack.encode(offer)
            sql.execute("UPDATE work SET offer = ? WHERE plan = ? AND offer IS NOT NULL", (encoded, plan))

    @property
    def outbox(self) -> Work | None:
        """The plan whose update was trained last; None if there is none."""
        with self._reading() as sql:
            query = "SELECT plan, round, progress, offer FROM work JOIN outbox USING (plan)"
            row = sql.execute(query).fetchone()
            return self._work(row) if row else None

    def update(self, plan: str) -> tuple[Offer, bytes] | None:
        """Offer and content of the plan's update; None if a later one was trained, or it is damaged."""
        with self._reading() as sql:
            query = "SELECT offer, data FROM work JOIN outbox USING (plan) WHERE plan = ?"
            row = sql.execute(query, (plan,)).fetchone()
            if row is None:
                return None
            offer = self._decoded(row[0], Offer)
        return (offer, row[1]) if _hash(row[1]) == offer.manifest.sha256 else None

    def own(self) -> bytes | None:
        """The whole adapter of the last update; None if the update is the whole adapter."""
        with self._reading() as sql:
            row = sql.execute("SELECT own FROM outbox").fetchone()
        return row[0] if row else None

    def keep_sum(
        self, state: device.State, *, vector: bool, answered: Answered | None = None, spent: Spent | None = None
    ) -> None:
        """Store this device's part in a masked sum; it is synced when this returns.

        vector: True if the masked vector has changed since the last call.
        answered: the sum of a clustering that it agrees to now, in the same transaction.
        spent: the privacy budget that is spent when the vector leaves, in the same transaction.
        """
        record = device.record_of(msgspec.structs.replace(state, masked=b""))
        with self._writing(promised=True) as sql:
            sql.execute("INSERT OR IGNORE INTO masked_sum VALUES (1, NULL, NULL)")
            sql.execute("UPDATE masked_sum SET record = ?", (record,))
            if vector:
                sql.execute("UPDATE masked_sum SET vector = ?", (state.masked,))
            if answered is not None:
                sql.execute("INSERT OR REPLACE INTO answered VALUES (1, ?)", (msgspec.msgpack.encode(answered),))
            if spent is not None:
                sql.execute("INSERT OR REPLACE INTO spent VALUES (1, ?)", (msgspec.msgpack.encode(spent),))

    @property
    def masked_sum(self) -> device.State:
        """This device's part in a masked sum; an empty one if there was none."""
        with self._reading() as sql:
            row = sql.execute("SELECT record, vector FROM masked_sum").fetchone()
        if row is None:
            return device.State()
        try:
            return msgspec.structs.replace(device.restored(row[0]), masked=row[1] or b"")
        except JournalDamaged as error:  # without it the device might help to unmask a round twice
            raise _damaged(self._path, "the record of a masked sum is damaged") from error

    @property
    def answered(self) -> Answered:
        """The last sum of a clustering that this device has agreed to; an empty one if there was none."""
        with self._reading() as sql:
            row = sql.execute("SELECT record FROM answered").fetchone()
            return self._decoded(row[0], Answered) if row else Answered()

    @property
    def spent(self) -> Spent:
        """The privacy budget that answers with noise have spent, under whatever name of this device."""
        with self._reading() as sql:
            row = sql.execute("SELECT record FROM spent").fetchone()
            return self._decoded(row[0], Spent) if row else Spent()

    def choose_among(self, centroids: bytes, most: int) -> bool:
        """Store centroids that this device chooses its cluster among; False if there are so many others already."""
        with self._writing(promised=True) as sql:
            known = {row[0] for row in sql.execute("SELECT centroids FROM choice")}
            if centroids not in known and len(known) < most:
                sql.execute("INSERT INTO choice VALUES (?)", (centroids,))
                return True
        return centroids in known

    # transfers ------------------------------------------------------------------------------------------------------

    def resume(self, manifest: Manifest) -> tuple[bytes, bytearray] | None:
        """Register a content to be fetched. Return the bitmap of the chunks that came before, and a buffer with them.

        None if there are none.
        """
        with self._writing() as sql:
            row = sql.execute("SELECT manifest FROM transfer WHERE sha256 = ?", (manifest.sha256,)).fetchone()
            if row and not _same_chunks(self._decoded(row[0], Manifest), manifest):
                sql.execute("DELETE FROM transfer WHERE sha256 = ?", (manifest.sha256,))
            self._register(sql, manifest)
            chunks = sql.execute("SELECT number, data FROM chunk WHERE sha256 = ?", (manifest.sha256,))
            have, buffer = 0, bytearray()
            for number, data in chunks:
                start = number * manifest.chunk_size
                buffer = buffer or bytearray(manifest.size)
                buffer[start : start + len(data)] = data
                have |= 1 << number
        return (have.to_bytes(-(-manifest.chunks // 8), "little"), buffer) if have else None

    def keep_chunk(self, sha256: str, number: int, data: bytes | memoryview) -> None:
        """Store a chunk of a content that is being fetched; a content that was forgotten meanwhile is left alone."""
        with self._writing() as sql:
            known = "SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM transfer WHERE sha256 = ?)"
            sql.execute(f"INSERT OR IGNORE INTO chunk {known}", (sha256, number, data, sha256))

    def drop(self, sha256: str) -> None:
        """Delete the chunks of a content, as they do not match its manifest."""
        with self._writing(promised=True) as sql:
            sql.execute("DELETE FROM chunk WHERE sha256 = ?", (sha256,))

    def receive(self, manifest: Manifest, data: bytes) -> None:
        """Store a complete content; it is synced when this returns."""
        size = manifest.chunk_size
        with self._writing(promised=True) as sql:
            self._register(sql, manifest)
            kept = {row[0] for row in sql.execute("SELECT number FROM chunk WHERE sha256 = ?", (manifest.sha256,))}
            for number in set(range(manifest.chunks)) - kept:
                chunk = memoryview(data)[number * size : (number + 1) * size]
                sql.execute("INSERT INTO chunk VALUES (?, ?, ?)", (manifest.sha256, number, chunk))
            sql.execute("UPDATE transfer SET whole = 1 WHERE sha256 = ?", (manifest.sha256,))

    def content_of(self, sha256: str) -> bytes | None:
        """A content that was received completely, in this round or earlier; None if it was not, or is damaged."""
        with self._reading() as sql:
            if not sql.execute("SELECT 1 FROM transfer WHERE sha256 = ? AND whole", (sha256,)).fetchone():
                return None
            chunks = sql.execute("SELECT data FROM chunk WHERE sha256 = ? ORDER BY number", (sha256,))
            data = b"".join(row[0] for row in chunks)
        if _hash(data) == sha256:
            return data
        self.drop(sha256)
        return None

    def forget_transfers(self, keep: Collection[str] = ()) -> None:
        """Delete all contents but these, complete or not; if none is kept, return their room to the disk."""
        with self._writing() as sql:
            known = {row[0] for row in sql.execute("SELECT sha256 FROM transfer")}
            sql.executemany("DELETE FROM transfer WHERE sha256 = ?", [(sha256,) for sha256 in known - set(keep)])
        if not keep:
            with self._reading() as sql:
                sql.executescript("PRAGMA incremental_vacuum")  # `execute` would free one page

    # the end --------------------------------------------------------------------------------------------------------

    def note_ending(self, step: Finished | None) -> None:
        """Store the step that ended the federation; None if it goes on, or if all adapters are in place."""
        if self.ending == step:
            return
        with self._writing(promised=True) as sql:
            if step is None:
                sql.execute("DELETE FROM ending")
            else:
                sql.execute("INSERT OR REPLACE INTO ending VALUES (1, ?)", (msgspec.msgpack.encode(step),))

    @property
    def ending(self) -> Finished | None:
        """The step that has ended the federation; None if there is none."""
        with self._reading() as sql:
            row = sql.execute("SELECT step FROM ending").fetchone()
            return self._decoded(row[0], Finished) if row else None

    # inside ---------------------------------------------------------------------------------------------------------

    def _register(self, sql: sqlite3.Connection, manifest: Manifest) -> None:
        content = (manifest.sha256, msgspec.msgpack.encode(manifest))
        sql.execute("INSERT OR IGNORE INTO transfer VALUES (?, ?, 0)", content)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _named_errors(self._path):
            yield self._sql

    @contextmanager
    def _writing(self, *, promised: bool = False) -> Iterator[sqlite3.Connection]:
        """A write transaction. promised: sync it before this ends."""
        with self._lock, _named_errors(self._path):
            self._sql.execute(f"PRAGMA synchronous = {'FULL' if promised else 'NORMAL'}")
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield self._sql
                self._sql.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite rolls back by itself when the disk fails
                    self._sql.execute("ROLLBACK")
                raise

    def _decoded(self, data: bytes, kind: type[_T]) -> _T:
        return _decoded(self._path, data, kind)

    def _work(self, row: tuple[str, int, Progress, bytes | None]) -> Work:
        plan, number, progress, offer = row
        return Work(plan, number, progress, None if offer is None else self._decoded(offer, Offer))


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.ProgrammingError as error:
        raise JournalError(f"{path}: {error}. Open a membership anew.") from error
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise DeviceBusy(f"Another program has held {path} for {_BUSY:g} s: end it, then run again.") from error
        if "unable to open" in str(error):
            raise no_home(path.parent, error) from error
        if "no such" in str(error):
            raise _damaged(path, str(error)) from error
        raise JournalError(
            f"Cannot write {path}: {error}. Make room on the disk, or see to its rights; then run again."
        ) from error
    except sqlite3.DatabaseError as error:
        raise _damaged(path, str(error)) from error


def in_use(path: Path) -> str:
    """The message for a home whose journal somebody else has open."""
    return (
        f"{path.parent} is the home of a membership that is open, in another process or in this one. One home is for "
        "one membership: close that one, or give this one a home of its own."
    )


def no_home(home: Path, error: Exception) -> ConfigurationError:
    """The error for a home folder that cannot be made or written."""
    return ConfigurationError(
        f"Cannot use {home} as a device's home: {error}. Give a folder that this user may write (--home, or home=)."
    )


def _damaged(path: Path, why: str) -> JournalDamaged:
    return JournalDamaged(
        f"{path} cannot be used ({why}). Restore it from a backup, or move it away: the device then joins afresh, "
        "trains its round anew, and trusts the first coordinator that it meets unless it is told which."
    )


def _check_kind(sql: sqlite3.Connection, path: Path) -> bool:
    """Refuse a file that is no journal, or too new; return True if it is still empty."""
    application, version = (int(sql.execute(f"PRAGMA {mark}").fetchone()[0]) for mark in _MARKS)
    empty: bool = sql.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if application != _APPLICATION and not empty:
        raise _damaged(path, "it is a database of another program")
    if application == _APPLICATION and version > VERSION:
        raise JournalTooNew(
            f"{path} was written by a later version of Impasto (its version {version}, ours {VERSION}): run that "
            "version, or move the file away to join afresh."
        )
    return empty


def _trusted_key(sql: sqlite3.Connection) -> bytes | None:
    key: bytes | None = sql.execute("SELECT trusted_key FROM session").fetchone()[0]
    return key


def _decoded(path: Path, data: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise _damaged(path, str(error)) from error


def _same_chunks(one: Manifest, other: Manifest) -> bool:
    return (one.size, one.chunk_size) == (other.size, other.chunk_size)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
