"""A device's journal: what it must not forget of a round, in one SQLite file.

    session      the epoch of the last session; the coordinator's key that this device trusts, and how far it was heard
    owner        whose home this is: the federation, and the device's name in it
    former_key   the keys that have vouched for that one, each for the next
    work         every plan that it was given, and how far it came with it
    outbox       the update that was trained last, until the next one is
    transfer     contents that are being fetched or have come, with their manifests
    chunk        their chunks; which there are is the bitmap that a transfer resumes from
    ending       the step that ended the federation, until its adapters are put in place

What is promised when: `keep_update` and `receive` return when the data is synced (synchronous=FULL), because training
is not repeated and the coordinator is told "committed" on the strength of them; so are the session and the states of
work. A chunk is written at once, but synced with others (synchronous=NORMAL: at SQLite's next checkpoint, every few
megabytes, or with the next promise, whichever is first). A killed process therefore loses no chunk, a power cut some,
which are pulled again. SQLite keeps the file itself whole either way.

One file per home, and one process at a time: a lock file beside it is held while it is open. Methods may be called from
any thread.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import msgspec

from edge_sdk.errors import ConfigurationError, DeviceBusy, JournalDamaged, JournalError, JournalTooNew
from edge_sdk.lockfile import LockFile
from edge_sdk.wire import Finished, Manifest, Offer, RoundStart, following

Progress: TypeAlias = Literal["begun", "trained", "offered", "committed", "refused"]

_T = TypeVar("_T", Offer, Manifest, Finished)

VERSION = 1
_APPLICATION = 0x494D504A  # "IMPJ", in the file's header
_MARKS = ("application_id", "user_version")
_BUSY = 5.0  # seconds that another program, which looks into the file, may hold it
_WORKS = 1000  # plans that are remembered
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
# Journals that were begun before there were these tables get them, too.
_LATER = (
    """CREATE TABLE IF NOT EXISTS owner (
        one INTEGER PRIMARY KEY CHECK (one = 1), federation TEXT NOT NULL, device TEXT NOT NULL
    )""",
    "CREATE TABLE IF NOT EXISTS ending (one INTEGER PRIMARY KEY CHECK (one = 1), step BLOB NOT NULL)",
)


class Work(msgspec.Struct, frozen=True):
    """A plan and how far this device came with it; `offer` from "trained" on."""

    plan: str
    round: int
    progress: Progress
    offer: Offer | None

    def may_count_in(self, start: RoundStart) -> bool:
        """Whether its update, of an earlier round, may take the place of what `start` asks for."""
        return self.progress in ("trained", "offered") and self.round < start.round <= self.round + start.late


class Owner(msgspec.Struct, frozen=True):
    """Whose home a journal lies in: the federation, and the device's name in it."""

    federation: str
    device: str


def read_owner(path: Path) -> Owner | None:
    """Whose the journal in `path` is, None if there is no journal or nobody has claimed it.

    Only looks, as `read_trusted_key`, and raises as that.
    """
    if not path.is_file():
        return None
    with _named_errors(path), closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", _BUSY, uri=True)) as sql:
        _check_kind(sql, path)
        if not sql.execute("SELECT 1 FROM sqlite_schema WHERE name = 'owner'").fetchone():
            return None
        row = sql.execute("SELECT federation, device FROM owner").fetchone()
    return Owner(*row) if row else None


def read_trusted_key(path: Path) -> bytes | None:
    """The coordinator's key that the journal in `path` trusts, None if there is no journal or it has met none yet.

    Only looks: it neither waits for the process that has the journal open, nor keeps it waiting.

    Raises:
        JournalDamaged, JournalTooNew, JournalError: as `Journal`.
    """
    if not path.is_file():
        return None
    with _named_errors(path), closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", _BUSY, uri=True)) as sql:
        empty = _check_kind(sql, path)
        return None if empty else _trusted_key(sql)


class Journal:
    """The journal in `path`; `close` it.

    Raises (all methods; the first two on opening):
        JournalDamaged: the file is no journal, or SQLite finds it damaged.
        JournalTooNew: written by a later version.
        DeviceBusy: it is open already, in another process or in this one (opening); another program holds the file.
        JournalError: it cannot be written, for instance because the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        with ExitStack() as opened:
            try:
                self._held = LockFile(path.with_suffix(".lock"), _in_use(path))
            except OSError as error:
                raise no_home(path.parent, error) from error
            opened.callback(self._held.release)
            with _named_errors(path):
                # Autocommit: transactions are begun by hand, after choosing how they are synced.
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
        if empty:  # also where a power cut left an empty file
            marks = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {VERSION};"
            sql.executescript(f"PRAGMA synchronous = FULL; BEGIN IMMEDIATE; {_SCHEMA} {marks} COMMIT;")
        for table in _LATER:
            sql.execute(table)

    def close(self) -> None:
        """Close the file, and let the next one open it. May be repeated; nothing can be noted any more."""
        with self._lock:
            self._sql.close()
            self._held.release()

    def check_owner(self, federation: str) -> None:
        """Whether this home may be used for that federation: ConfigurationError if it is another one's."""
        owner = self._owner()
        if owner and owner.federation != federation:
            raise ConfigurationError(
                f"{self._path.parent} is the home of {owner.device!r} in federation {owner.federation!r}: its adapters "
                f"lie there, and its coordinator's key. Give {federation!r} a home of its own (`impasto join --home "
                "FOLDER`)."
            )

    def claim(self, federation: str, device: str) -> None:
        """This is the home of that device in that federation from now on. What another device has trained there is
        not handed in a second time, under the new name."""
        before = self._owner()
        if before != Owner(federation, device):
            with self._writing(promised=True) as sql:
                if before is not None:
                    sql.execute("DELETE FROM outbox")
                    sql.execute("DELETE FROM work")
                sql.execute("INSERT OR REPLACE INTO owner VALUES (1, ?, ?)", (federation, device))

    def _owner(self) -> Owner | None:
        with self._reading() as sql:
            row = sql.execute("SELECT federation, device FROM owner").fetchone()
        return Owner(*row) if row else None

    # session --------------------------------------------------------------------------------------------------------

    def next_epoch(self) -> int:
        """A number that grows with every session; by the clock, so that it grows also where the journal was lost."""
        with self._writing(promised=True) as sql:
            (last,) = sql.execute("SELECT epoch FROM session").fetchone()
            epoch = following(int(last), time.time())
            sql.execute("UPDATE session SET epoch = ?", (epoch,))
        return epoch

    @property
    def trusted_key(self) -> bytes | None:
        """The coordinator's public key that this device trusts, None before it has met one."""
        with self._reading() as sql:
            return _trusted_key(sql)

    def trust(self, key: bytes) -> None:
        """Trust this key from now on, and no other; of a coordinator that is new here, nothing has been heard yet."""
        with self._writing(promised=True) as sql:
            known = "SELECT 1 WHERE ? IN (SELECT trusted_key FROM session UNION SELECT key FROM former_key)"
            if not sql.execute(known, (key,)).fetchone():
                sql.execute("UPDATE session SET heard_epoch = 0, heard_round = 0")
                sql.execute("DELETE FROM former_key")
            sql.execute("UPDATE session SET trusted_key = ?", (key,))

    def follow(self, key: bytes) -> None:
        """Trust this key, for which the trusted one has vouched. It is the same coordinator's."""
        with self._writing(promised=True) as sql:
            sql.execute("INSERT OR IGNORE INTO former_key SELECT trusted_key FROM session")
            sql.execute("UPDATE session SET trusted_key = ?", (key,))

    @property
    def heard(self) -> tuple[int, int]:
        """The newest that the coordinator has said: the epoch of its life, and the round in it."""
        with self._reading() as sql:
            epoch, round_ = sql.execute("SELECT heard_epoch, heard_round FROM session").fetchone()
        return int(epoch), int(round_)

    def note_heard(self, epoch: int, round_: int) -> None:
        """The coordinator has come so far: what is older is not listened to any more, not even after a restart."""
        with self._writing(promised=True) as sql:
            sql.execute("UPDATE session SET heard_epoch = ?, heard_round = ?", (epoch, round_))

    # work and its update --------------------------------------------------------------------------------------------

    def begin(self, plan: str, round_: int) -> None:
        """A plan is under way; what is known of it already stays."""
        with self._writing(promised=True) as sql:
            sql.execute("INSERT OR IGNORE INTO work (plan, round, progress) VALUES (?, ?, 'begun')", (plan, round_))
            sql.execute("DELETE FROM work WHERE number <= (SELECT max(number) FROM work) - ?", (_WORKS,))

    def keep_update(self, plan: str, offer: Offer, data: bytes, own: bytes | None = None) -> None:
        """The plan is trained: from now on its update is handed in, in place of the last one's, and not trained again.

        own: the whole adapter of which the update is a part, where a factor of it stays at home.
        """
        with self._writing(promised=True) as sql:
            sql.execute(
                "INSERT INTO work (plan, round, progress, offer) VALUES (?, ?, 'trained', ?) ON CONFLICT (plan) DO "
                "UPDATE SET offer = excluded.offer, progress = iif(progress = 'committed', progress, 'trained')",
                (plan, offer.round, msgspec.msgpack.encode(offer)),
            )
            sql.execute("INSERT OR REPLACE INTO outbox VALUES (1, ?, ?, ?)", (plan, data, own))

    def note(self, plan: str, progress: Progress) -> None:
        """How far a plan has come. What was committed stays so, whatever is heard of it later."""
        with self._writing(promised=True) as sql:
            sql.execute(
                "UPDATE work SET progress = ? WHERE plan = ? AND progress NOT IN ('committed', ?)",
                (progress, plan, progress),
            )

    def restate(self, plan: str, offer: Offer) -> None:
        """The update that answers this plan is offered like this from now on."""
        with self._writing(promised=True) as sql:
            encoded = msgspec.msgpack.encode(offer)
            sql.execute("UPDATE work SET offer = ? WHERE plan = ? AND offer IS NOT NULL", (encoded, plan))

    @property
    def outbox(self) -> Work | None:
        """The plan whose update was trained last, None if there is none."""
        with self._reading() as sql:
            query = "SELECT plan, round, progress, offer FROM work JOIN outbox USING (plan)"
            row = sql.execute(query).fetchone()
            return self._work(row) if row else None

    def update(self, plan: str) -> tuple[Offer, bytes] | None:
        """The update that answers this plan; None if it is not the last that was trained, or is damaged."""
        with self._reading() as sql:
            query = "SELECT offer, data FROM work JOIN outbox USING (plan) WHERE plan = ?"
            row = sql.execute(query, (plan,)).fetchone()
            if row is None:
                return None
            offer = self._decoded(row[0], Offer)
        return (offer, row[1]) if _hash(row[1]) == offer.manifest.sha256 else None

    def own(self) -> bytes | None:
        """The whole adapter behind the last update, None if the update is all there is."""
        with self._reading() as sql:
            row = sql.execute("SELECT own FROM outbox").fetchone()
        return row[0] if row else None

    # transfers ------------------------------------------------------------------------------------------------------

    def resume(self, manifest: Manifest) -> tuple[bytes, bytearray] | None:
        """A content is about to be fetched: the bitmap of the chunks that came before and a buffer with them in their
        places; None if there are none."""
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
        """A chunk of a content that is being fetched; of one that was forgotten meanwhile, nothing is kept."""
        with self._writing() as sql:
            known = "SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM transfer WHERE sha256 = ?)"
            sql.execute(f"INSERT OR IGNORE INTO chunk {known}", (sha256, number, data, sha256))

    def drop(self, sha256: str) -> None:
        """What came of a content is not what its manifest promised: forget its chunks."""
        with self._writing(promised=True) as sql:
            sql.execute("DELETE FROM chunk WHERE sha256 = ?", (sha256,))

    def receive(self, manifest: Manifest, data: bytes) -> None:
        """A content came whole: when this returns, it is safe."""
        size = manifest.chunk_size
        with self._writing(promised=True) as sql:
            self._register(sql, manifest)
            kept = {row[0] for row in sql.execute("SELECT number FROM chunk WHERE sha256 = ?", (manifest.sha256,))}
            for number in set(range(manifest.chunks)) - kept:
                chunk = memoryview(data)[number * size : (number + 1) * size]
                sql.execute("INSERT INTO chunk VALUES (?, ?, ?)", (manifest.sha256, number, chunk))
            sql.execute("UPDATE transfer SET whole = 1 WHERE sha256 = ?", (manifest.sha256,))

    def received(self, sha256: str) -> bytes | None:
        """A content that came whole, in this round or an earlier one; None if it did not, or is damaged."""
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
        """Forget all contents but these, whole or not; if all are forgotten, give their room back to the disk."""
        with self._writing() as sql:
            known = {row[0] for row in sql.execute("SELECT sha256 FROM transfer")}
            sql.executemany("DELETE FROM transfer WHERE sha256 = ?", [(sha256,) for sha256 in known - set(keep)])
        if not keep:
            with self._reading() as sql:
                sql.executescript("PRAGMA incremental_vacuum")  # `execute` would free one page

    # the end --------------------------------------------------------------------------------------------------------

    def note_ending(self, step: Finished | None) -> None:
        """The federation has ended with this step; None: it goes on, or all is in place."""
        if self.ending == step:
            return
        with self._writing(promised=True) as sql:
            if step is None:
                sql.execute("DELETE FROM ending")
            else:
                sql.execute("INSERT OR REPLACE INTO ending VALUES (1, ?)", (msgspec.msgpack.encode(step),))

    @property
    def ending(self) -> Finished | None:
        """The step that has ended the federation, None if none has."""
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
        """A transaction; `promised`: it is synced when this ends."""
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
        try:
            return msgspec.msgpack.decode(data, type=kind)
        except msgspec.DecodeError as error:
            raise _damaged(self._path, str(error)) from error

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


def _in_use(path: Path) -> str:
    return (
        f"{path.parent} is the home of a membership that is open, in another process or in this one. One home is for "
        "one membership: close that one, or give this one a home of its own."
    )


def no_home(home: Path, error: Exception) -> ConfigurationError:
    """What is said of a folder that cannot be made or written."""
    return ConfigurationError(
        f"Cannot use {home} as a device's home: {error}. Give a folder that this user may write (--home, or home=)."
    )


def _damaged(path: Path, why: str) -> JournalDamaged:
    return JournalDamaged(
        f"{path} cannot be used ({why}). Restore it from a backup, or move it away: the device then joins afresh, "
        "trains its round anew, and trusts the first coordinator that it meets unless it is told which."
    )


def _check_kind(sql: sqlite3.Connection, path: Path) -> bool:
    """Refuse what is no journal of ours, or too new; whether there is nothing in it yet."""
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


def _same_chunks(one: Manifest, other: Manifest) -> bool:
    return (one.size, one.chunk_size) == (other.size, other.chunk_size)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
