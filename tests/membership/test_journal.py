"""A device's journal: what it says after being opened again, whatever happened to it before."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from edge_sdk.errors import ConfigurationError, DeviceBusy, JournalDamaged, JournalError, JournalTooNew
from edge_sdk.membership.journal import VERSION, Journal, Work, read_trusted_key
from edge_sdk.secure_aggregation import RANDOM_BYTES, Policy, Terms, device
from edge_sdk.wire.messages import Manifest, Offer
from edge_sdk.wire.transfer import make_manifest

CHUNK = 1024


def content(seed: int, size: int = 5000) -> bytes:
    return hashlib.shake_128(bytes([seed])).digest(size)


def manifest(data: bytes, chunk_size: int = CHUNK) -> Manifest:
    return make_manifest(data, "root", "root", chunk_size)


def offer(data: bytes, number: int = 1) -> Offer:
    update = make_manifest(data, role="update", name=f"update-{number}")
    return Offer(
        round=number, attempt=number, manifest=update, pictures=3, first_loss=1.0, last_loss=0.5, train_seconds=1.0
    )


def chunk(data: bytes, number: int) -> bytes:
    return data[number * CHUNK : (number + 1) * CHUNK]


@contextmanager
def opened(folder: Path) -> Iterator[Journal]:
    with closing(Journal(folder / "journal.sqlite")) as journal:
        yield journal


def progress_of(journal: Journal) -> str | None:
    """Of the plan that was trained last."""
    return journal.outbox.progress if journal.outbox else None


class Model(RuleBasedStateMachine):
    """Any order of operations, and being killed between any two of them: the journal says what a dictionary says."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.journal = Journal(self.folder / "journal.sqlite")
        self.epoch = 0
        self.key: bytes | None = None
        self.former: set[bytes] = set()
        self.heard = (0, 0)
        self.works: dict[str, list[Any]] = {}
        self.outbox: tuple[str, bytes, bytes | None] | None = None
        self.chunks: dict[int, set[int]] = {}
        self.whole: set[int] = set()

    def teardown(self) -> None:
        self.journal.close()
        shutil.rmtree(self.folder)

    plans = st.sampled_from(["p1", "p2", "p3"])
    contents = st.integers(0, 2)

    @rule()
    def killed(self) -> None:
        """Leave the files as a killed process does, without a goodbye. The old connection's locks go with it."""
        copy = Path(tempfile.mkdtemp())
        for path in self.folder.iterdir():
            if not path.name.endswith("-shm"):  # memory of the dead
                shutil.copy(path, copy)
        self.journal.close()
        shutil.rmtree(self.folder)
        self.folder, self.journal = copy, Journal(copy / "journal.sqlite")

    @rule()
    def session(self) -> None:
        epoch = self.journal.next_epoch()
        assert epoch > self.epoch
        self.epoch = epoch

    keys = st.sampled_from([bytes([number]) * 32 for number in range(4)])

    @rule(key=keys)
    def trust(self, key: bytes) -> None:
        self.journal.trust(key)
        if key not in (self.key, *self.former):
            self.former, self.heard = set(), (0, 0)
        self.key = key

    @precondition(lambda self: self.key is not None)
    @rule(key=keys)
    def follow(self, key: bytes) -> None:
        assert self.key
        self.journal.follow(key)
        self.former.add(self.key)
        self.key = key

    @rule(epoch=st.integers(0, 9), number=st.integers(0, 9))
    def hear(self, epoch: int, number: int) -> None:
        self.journal.note_heard(epoch, number)
        self.heard = epoch, number

    @rule(plan=plans)
    def begin(self, plan: str) -> None:
        self.journal.begin(plan, int(plan[1]))
        self.works.setdefault(plan, [int(plan[1]), "begun", None])

    @rule(plan=plans, data=st.binary(min_size=1, max_size=50), own=st.none() | st.binary(max_size=10))
    def keep_update(self, plan: str, data: bytes, own: bytes | None) -> None:
        number = int(plan[1])
        self.journal.keep_update(plan, offer(data, number), data, own)
        before = self.works.get(plan, [number, "begun", None])[1]
        self.works[plan] = [number, before if before == "committed" else "trained", offer(data, number)]
        self.outbox = (plan, data, own)

    @rule(plan=plans, attempt=st.integers(1, 9))
    def restate(self, plan: str, attempt: int) -> None:
        if kept := self.works.get(plan, [0, "", None])[2]:
            said = replace(kept, attempt=attempt)
            self.journal.restate(plan, said)
            self.works[plan][2] = said
        else:
            self.journal.restate(plan, offer(b"x", int(plan[1])))

    @rule(plan=plans, progress=st.sampled_from(["offered", "committed", "refused"]))
    def note(self, plan: str, progress: Any) -> None:
        self.journal.note(plan, progress)
        if plan in self.works and self.works[plan][1] != "committed":
            self.works[plan][1] = progress

    @rule(which=contents)
    def resume(self, which: int) -> None:
        data = content(which)
        kept = self.chunks.setdefault(which, set())
        resumed = self.journal.resume(manifest(data))
        assert (resumed is None) == (not kept)
        if resumed:
            have, buffer = resumed
            assert int.from_bytes(have, "little") == sum(1 << number for number in kept)
            assert all(chunk(bytes(buffer), number) == chunk(data, number) for number in kept)

    @rule(which=contents, number=st.integers(0, 4))
    def keep_chunk(self, which: int, number: int) -> None:
        data = content(which)
        self.journal.keep_chunk(manifest(data).sha256, number, chunk(data, number))
        if which in self.chunks:
            self.chunks[which].add(number)

    @rule(which=contents)
    def receive(self, which: int) -> None:
        self.journal.receive(manifest(content(which)), content(which))
        self.chunks[which] = set(range(5))
        self.whole.add(which)

    @rule(keep=st.sets(contents))
    def forget(self, keep: set[int]) -> None:
        self.journal.forget_transfers({manifest(content(which)).sha256 for which in keep})
        self.chunks = {which: kept for which, kept in self.chunks.items() if which in keep}
        self.whole &= keep

    @invariant()
    def says_the_same(self) -> None:
        journal = self.journal
        assert (journal.trusted_key, journal.heard) == (self.key, self.heard)
        plan, data, own = self.outbox or ("none", b"", None)
        outbox = journal.outbox
        assert outbox == (Work(plan, *self.works[plan]) if self.outbox else None)
        assert journal.own() == own
        for name in ("p1", "p2", "p3"):
            assert journal.update(name) == ((outbox.offer, data) if outbox and name == plan else None)
        for which in range(3):
            expected = content(which) if which in self.whole else None
            assert journal.content_of(manifest(content(which)).sha256) == expected


Model.TestCase.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
TestModel = Model.TestCase


def test_epochs_grow_over_sessions_and_over_a_lost_journal(tmp_path: Path) -> None:
    epochs = []
    for _ in range(3):
        with opened(tmp_path) as journal:
            epochs.append(journal.next_epoch())
    assert epochs == sorted(set(epochs))
    (tmp_path / "journal.sqlite").unlink()
    with opened(tmp_path) as journal:
        assert journal.next_epoch() >= epochs[0]


def test_nobody_else_reads_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with opened(tmp_path):
        assert {file.name for file in tmp_path.iterdir() if file.stat().st_mode & 0o077} == {"journal.lock"}
    path.chmod(0o644)  # as an earlier version has left it
    with opened(tmp_path):
        assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_committed_stays_committed(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.begin("plan", 1)
        journal.keep_update("plan", offer(b"update"), b"update")
        for progress in ("offered", "committed", "refused", "offered"):
            journal.note("plan", progress)  # type: ignore[arg-type]
        assert progress_of(journal) == "committed"
        journal.keep_update("plan", offer(b"update"), b"update")
        assert progress_of(journal) == "committed"


def test_old_plans_are_forgotten_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A known plan stays committed when it is trained again; a forgotten one does not."""
    monkeypatch.setattr("edge_sdk.membership.journal._WORKS", 3)
    with opened(tmp_path) as journal:
        for number in range(1, 8):
            journal.begin(f"plan {number}", number)
            journal.keep_update(f"plan {number}", offer(b"update", number), b"update")
            journal.note(f"plan {number}", "committed")
        for number, progress in ((5, "committed"), (4, "trained")):
            journal.keep_update(f"plan {number}", offer(b"update", number), b"update")
            assert progress_of(journal) == progress


def damage(folder: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(folder / "journal.sqlite")) as sql, sql:
        sql.execute(statement, values)


def test_a_damaged_update_is_not_handed_in(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.keep_update("plan", offer(b"update"), b"update")
    damage(tmp_path, "UPDATE outbox SET data = ?", b"damage")
    with opened(tmp_path) as journal:
        assert journal.update("plan") is None


def test_a_damaged_content_is_fetched_anew(tmp_path: Path) -> None:
    data = content(1)
    with opened(tmp_path) as journal:
        journal.receive(manifest(data), data)
    damage(tmp_path, "UPDATE chunk SET data = ? WHERE number = 3", bytes(CHUNK))
    with opened(tmp_path) as journal:
        assert journal.content_of(manifest(data).sha256) is None
        assert journal.resume(manifest(data)) is None


def test_chunks_of_another_size_are_of_no_use(tmp_path: Path) -> None:
    data = content(1)
    with opened(tmp_path) as journal:
        journal.resume(manifest(data))
        journal.keep_chunk(manifest(data).sha256, 0, chunk(data, 0))
        assert journal.resume(manifest(data)) is not None
        assert journal.resume(manifest(data, chunk_size=2048)) is None


def test_a_journal_gives_its_room_back(tmp_path: Path) -> None:
    data = content(1, 4_000_000)
    with opened(tmp_path) as journal:
        journal.receive(make_manifest(data, "root", "root"), data)
        journal.forget_transfers()
    assert (tmp_path / "journal.sqlite").stat().st_size < 500_000


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to be looked at " * 100, b"SQLite format 3\0" * 99]
)
def test_a_file_that_is_no_journal_is_refused_by_name_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.sqlite").write_bytes(content)
    with pytest.raises(JournalDamaged, match="move it away"), opened(tmp_path):
        pass
    assert (tmp_path / "journal.sqlite").read_bytes() == content


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as sql, sql:
        sql.execute("CREATE TABLE bookmarks (url TEXT)")
    with pytest.raises(JournalDamaged, match="another program"), opened(tmp_path):
        pass


def test_a_journal_of_a_later_version_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    damage(tmp_path, f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(JournalTooNew, match="later version"), opened(tmp_path):
        pass


def test_a_torn_journal_is_named_when_it_is_met(tmp_path: Path) -> None:
    data = content(1, 400_000)
    with opened(tmp_path) as journal:
        journal.keep_update("plan", offer(data), data)
    file = tmp_path / "journal.sqlite"
    torn = bytearray(file.read_bytes())
    torn[16384:] = bytes(len(torn) - 16384)  # all pages but the first
    file.write_bytes(torn)
    with pytest.raises(JournalDamaged, match="cannot be used"), opened(tmp_path) as journal:
        journal.update("plan")


def test_a_file_that_a_power_cut_left_empty_is_a_new_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"")
    with opened(tmp_path) as journal:
        assert journal.trusted_key is None


def test_what_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="home"):
        Journal(tmp_path / "nowhere" / "journal.sqlite")
    with opened(tmp_path) as journal:
        journal._sql.execute("PRAGMA max_page_count = 20")  # a full disk, as SQLite sees it
        with pytest.raises(JournalError, match="Make room"):
            journal.keep_update("plan", offer(bytes(1 << 20)), bytes(1 << 20))
        assert journal.outbox is None
        journal.trust(bytes(32))
    with pytest.raises(JournalError, match="anew"):
        journal.trust(bytes(32))


def test_a_file_that_another_program_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_sdk.membership.journal._BUSY", 0.01)
    with opened(tmp_path) as journal, closing(sqlite3.connect(tmp_path / "journal.sqlite")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DeviceBusy, match="Another program"):
            journal.next_epoch()


HOLDER = """
import sys
from pathlib import Path
from edge_sdk.membership.journal import Journal

journal = Journal(Path(sys.argv[1]))
journal.trust(bytes(range(32)))
print("open", flush=True)
sys.stdin.readline()
journal.close()
print("closed", flush=True)
sys.stdin.readline()
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which has the journal open when it is handed out."""
    command = [sys.executable, "-c", HOLDER, str(folder / "journal.sqlite")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock: there nobody is kept out")
class TestOneHomeIsForOne:
    def test_two_processes_do_not_share_a_home(self, tmp_path: Path) -> None:
        with holder(tmp_path):
            for _ in range(2):  # the attempt takes nothing away from the other
                with pytest.raises(DeviceBusy, match=f"{tmp_path} is the home .* a home of its own"):
                    Journal(tmp_path / "journal.sqlite")

    def test_a_killed_one_makes_room(self, tmp_path: Path) -> None:
        with holder(tmp_path) as process:
            process.kill()
            process.wait(30)
            with opened(tmp_path) as journal:
                assert journal.trusted_key == bytes(range(32))

    def test_one_that_closes_makes_room_though_its_process_lives(self, tmp_path: Path) -> None:
        with holder(tmp_path) as process:
            assert process.stdin
            assert process.stdout
            print(file=process.stdin, flush=True)
            assert process.stdout.readline() == "closed\n"
            with opened(tmp_path):
                assert process.poll() is None

    def test_nor_do_two_in_one_process(self, tmp_path: Path) -> None:
        with opened(tmp_path), pytest.raises(DeviceBusy, match="in another process or in this one"):
            Journal(tmp_path / "journal.sqlite")
        with opened(tmp_path) as journal:
            assert journal.trusted_key is None

    def test_one_that_could_not_be_opened_holds_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "journal.sqlite").write_bytes(b"no database at all, but long enough to be looked at " * 100)
        for _ in range(2):
            with pytest.raises(JournalDamaged):
                Journal(tmp_path / "journal.sqlite")

    def test_who_only_looks_neither_waits_nor_is_waited_for(self, tmp_path: Path) -> None:
        path = tmp_path / "journal.sqlite"
        assert read_trusted_key(path) is None
        assert list(tmp_path.iterdir()) == []
        with holder(tmp_path) as process:
            assert read_trusted_key(path) == bytes(range(32))
            process.kill()
            process.wait(30)
            assert read_trusted_key(path) == bytes(range(32)), "from the log that the dead has left"
        with opened(tmp_path) as journal:
            journal.trust(bytes(32))
            assert read_trusted_key(path) == bytes(32)


WRITER = """
import itertools, sys
from pathlib import Path
from edge_sdk.membership.journal import Journal
from tests.membership.test_journal import chunk, content, manifest, offer

journal = Journal(Path(sys.argv[1]))
done = journal.outbox.round if journal.outbox else 0
for number in itertools.count(done + 1):
    plan, data = f"plan {number}", content(number % 256, 60_000)
    journal.begin(plan, number)
    journal.keep_update(plan, offer(data, number), data)
    print("trained", number, flush=True)
    journal.note(plan, "committed")
    print("committed", number, flush=True)
    journal.resume(manifest(data))
    for index in range(40):
        journal.keep_chunk(manifest(data).sha256, index, chunk(data, index))
    print("chunks", number, flush=True)
    journal.receive(manifest(data), data)
    print("received", number, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_killed_in_the_middle_of_writing_it_loses_nothing_of_what_it_had_noted(tmp_path: Path) -> None:
    """Each time the process is killed while it writes what comes after the line that was read last."""
    for lines in (1, 6, 8, 11):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "journal.sqlite")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        read = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        said = [line.split() for line in [*read, *process.communicate(timeout=30)[0].splitlines()]]
        with opened(tmp_path) as journal:
            assert journal.outbox
            last = journal.outbox.round
            for what, number in ((what, int(number)) for what, number in said):
                data = content(number % 256, 60_000)
                if what == "trained":
                    assert number <= last
                    if number == last:
                        assert journal.update(f"plan {number}") == (offer(data, number), data)
                elif what == "committed":
                    assert number < last or journal.outbox.progress == "committed"
                elif what == "chunks":
                    resumed = journal.resume(manifest(data))
                    assert resumed is not None
                    assert int.from_bytes(resumed[0], "little") & (1 << 40) - 1 == (1 << 40) - 1
                else:
                    assert journal.content_of(manifest(data).sha256) == data


def test_whatever_a_power_cut_leaves_of_the_log_is_a_state_that_there_was(tmp_path: Path) -> None:
    """The write-ahead log may end anywhere: the journal is as it was at some moment, never a mixture."""

    def state(journal: Journal) -> tuple[Any, ...]:
        update = journal.update("plan")
        return journal.trusted_key, journal.outbox, update, journal.content_of(manifest(content(1)).sha256)

    live, file = tmp_path / "live", "journal.sqlite"
    live.mkdir()
    with opened(live) as journal:
        states = [state(journal)]
        for step in (
            lambda: journal.trust(bytes(32)),
            lambda: journal.begin("plan", 1),
            lambda: journal.keep_update("plan", offer(content(2)), content(2)),
            lambda: journal.receive(manifest(content(1)), content(1)),
            lambda: journal.note("plan", "committed"),
            lambda: journal.forget_transfers({"others"}),
        ):
            step()
            states.append(state(journal))
        log = (live / f"{file}-wal").read_bytes()
        base = (live / file).read_bytes()
    seen = set()
    for cut in range(0, len(log) + 1, max(1, len(log) // 40)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / file).write_bytes(base)
        (folder / f"{file}-wal").write_bytes(log[:cut])
        with opened(folder) as journal:
            assert state(journal) in states
            seen.add(states.index(state(journal)))
    assert len(seen) > 3


class TestMaskedSums:
    TERMS = Terms(federation="tastes", epoch=7, round=3, attempt=1, step=bytes(32), words=4, policy=Policy())

    def begun(self) -> device.State:
        rules = device.Rules(device="pi-4", identity=bytes(range(32)))
        return device.step(rules, device.State(), device.Begin(self.TERMS, bytes(range(RANDOM_BYTES))))[0]

    def test_a_part_in_a_sum_outlives_the_session(self, tmp_path: Path) -> None:
        with opened(tmp_path) as journal:
            assert journal.masked_sum == device.State()
            journal.keep_sum(self.begun(), vector=False)
        with opened(tmp_path) as journal:
            assert journal.masked_sum == self.begun()

    def test_the_vector_is_written_when_it_has_changed(self, tmp_path: Path) -> None:
        masked = replace(self.begun(), phase="masked", masked=b"vector", secrets=None)
        with opened(tmp_path) as journal:
            journal.keep_sum(masked, vector=True)
            journal.keep_sum(replace(masked, phase="consented"), vector=False)
            assert journal.masked_sum == replace(masked, phase="consented")
        with opened(tmp_path) as journal:
            journal.keep_sum(self.begun(), vector=True)
            assert journal.masked_sum.masked == b""

    def test_it_is_not_another_devices(self, tmp_path: Path) -> None:
        with opened(tmp_path) as journal:
            journal.claim("tastes", "pi-4")
            journal.keep_sum(self.begun(), vector=False)
            journal.claim("tastes", "pi-5")
            assert journal.masked_sum == device.State()

    def test_a_damaged_record_is_named_with_its_file(self, tmp_path: Path) -> None:
        """It is not passed over: the device might help to unmask a round twice."""
        with opened(tmp_path) as journal:
            journal.keep_sum(self.begun(), vector=False)
        with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as sql, sql:
            sql.execute("UPDATE masked_sum SET record = x'c1'")
        with (
            opened(tmp_path) as journal,
            pytest.raises(JournalDamaged, match=r"journal\.sqlite .*masked sum is damaged"),
        ):
            _ = journal.masked_sum

    def test_a_journal_of_an_earlier_version_has_none(self, tmp_path: Path) -> None:
        with opened(tmp_path):
            pass
        with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as sql, sql:
            sql.execute("DROP TABLE masked_sum")
        with opened(tmp_path) as journal:
            assert journal.masked_sum == device.State()
