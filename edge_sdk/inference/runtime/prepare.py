"""Graphs prepared for this processor: optimised once, with the weights laid out for the kernels, and kept on disk.

Without this, ONNX Runtime does that work each time a graph is opened, and keeps the result in memory. A prepared graph
is opened in a fraction of the time, and its weights are a mapped file: clean pages, shared by all processes, which the
system drops when memory is short and reads again when it needs them. The pictures are the same to the last bit.

In the cache, each prepared graph is a folder named by everything that it depends on: the graph's files, the processor,
the version of onnxruntime. It holds model.onnx, its weights, and a note that describes them. A folder is complete or
not there: it is written beside its place, synced and renamed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

import msgspec
import onnxruntime as ort

from edge_sdk import durable
from edge_sdk.errors import BundleCorrupt, ConfigurationError, NoRoomToPrepare, PreparedElsewhere
from edge_sdk.inference.bundle import Graph, sha256_of
from edge_sdk.inference.runtime import hardware
from edge_sdk.inference.runtime.memory import give_back
from edge_sdk.inference.runtime.sessions import load, session_options
from edge_sdk.lockfile import LockFile
from edge_sdk.paths import expanded

# Bytes; smaller graphs are opened as fast as their preparation is found.
SMALL = 32_000_000
# Bytes of disk per byte of the graph. Convolutions need one, matrix products two: plain, and in the kernels' order.
DISK = 2.0
# Seconds to wait for another process that prepares the same graph.
PATIENCE = 900.0
_MODEL, _WEIGHTS, _NOTE = "model.onnx", "model.onnx_data", "prepared.json"
# Bytes; smaller weights stay in model.onnx.
_MIN_MAPPED = 1024


class NotPrepared(UserWarning):
    """A graph could not be prepared, and is used as it is: slower to open, and with all of its weights in memory."""

    def __init__(self, path: Path, reason: Exception) -> None:
        super().__init__(
            f"{path} is used unprepared ({reason}). Set IMPASTO_CACHE to a folder that can be written, "
            "or ask for prepare=False."
        )


class _File(msgspec.Struct, frozen=True):
    """A file of a prepared graph. stamp: see `_stamp`; a file with another stamp is hashed again."""

    sha256: str
    size: int
    stamp: tuple[int, int, int]


class _Note(msgspec.Struct, frozen=True, kw_only=True):
    """The content of prepared.json."""

    format: int = 1
    graph: dict[str, str]
    processor: str
    identity: str
    onnxruntime: str
    files: dict[str, _File]


def cache_folder(folder: Path | str | None = None) -> Path:
    """Folder of prepared graphs: `folder`, or $IMPASTO_CACHE, or the user's cache folder.

    Raises:
        ConfigurationError: neither of the first two is given, and this user has no home folder.
    """
    if folder or (folder := os.environ.get("IMPASTO_CACHE")):
        return expanded(folder)
    if sys.platform == "darwin":
        own = Path("~/Library/Caches/impasto")
    elif sys.platform == "win32":
        own = Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local") / "impasto" / "cache"
    else:
        own = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "impasto"
    try:
        return expanded(own)
    except ConfigurationError as error:
        raise ConfigurationError(
            "This user has no home folder, and so no place for prepared graphs: set IMPASTO_CACHE to a folder that can "
            "be written."
        ) from error


def pays(graph: Graph) -> bool:
    """True if a graph is worth preparing."""
    return bool(graph.hashes) and graph.size >= SMALL


def possible(graph: Graph, cache: Path) -> bool:
    """True if the graph is worth preparing, and is prepared already or the cache can be written."""
    return pays(graph) and (find(graph, cache) is not None or _writable(place(graph, cache)))


def disk_needed(graph: Graph) -> int:
    """Bytes that preparing the graph may take."""
    return int(DISK * graph.size)


def place(graph: Graph, cache: Path) -> Path:
    """Folder of the graph's preparation, which need not exist."""
    facts = [dict(sorted(graph.hashes.items())), hardware.processor().identity, ort.__version__, _MIN_MAPPED, 1]
    key = hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:24]
    return cache / "prepared" / f"{graph.path.parent.name}-{key}"


def find(graph: Graph, cache: Path) -> Path | None:
    """Path of the prepared graph; None if it is missing or incomplete.

    Raises:
        PreparedElsewhere: it was prepared on another processor.
    """
    folder = place(graph, cache)
    try:
        note = msgspec.json.decode((folder / _NOTE).read_bytes(), type=_Note)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    own = hardware.processor()
    if note.identity != own.identity:
        raise PreparedElsewhere(
            f"{folder} was prepared for another processor ({note.processor}; this is {own.name}): delete the folder, "
            "it will be made again. Prepared graphs cannot be copied from device to device."
        )
    if note.graph != dict(graph.hashes) or note.onnxruntime != ort.__version__:
        return None
    if set(note.files) != {_MODEL, _WEIGHTS} or not _whole(folder, note):
        return None
    return folder / _MODEL


def ready(graph: Graph, cache: Path) -> Path:
    """Path of the prepared graph, which is made now if it is missing.

    Raises:
        NoRoomToPrepare: the disk is too full; nothing was written.
        PreparedElsewhere: see `find`.
        BundleCorrupt: the graph is not the one that was exported, or cannot be loaded.
        DeviceBusy: another process prepares it and did not finish within `PATIENCE` seconds.
        OSError: the cache cannot be written.
    """
    if (path := find(graph, cache)) is not None:
        return path
    folder = place(graph, cache)
    _check_room(graph, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f".{folder.name}.lock")
    # On a disk without locks, two processes may both do the work; the second one's folder replaces the first one's.
    with LockFile(lock, f"Another process has held {lock} for {PATIENCE:g} s: look whether it hangs.", PATIENCE):
        # Another process may have made it while this one waited.
        if (path := find(graph, cache)) is None:
            _sweep(folder)
            _check_room(graph, folder)
            _check_graph(graph)
            _make(graph, folder)
            path = folder / _MODEL
    return path


def size(cache: Path) -> int:
    """Bytes in the cache."""
    return sum(path.lstat().st_size for path in _prepared(cache).rglob("*") if path.is_file())


def empty(cache: Path) -> int:
    """Delete all prepared graphs and return the bytes freed; processes that have one open can go on reading it."""
    freed = size(cache)
    if _prepared(cache).is_dir():
        shutil.rmtree(_prepared(cache))
    return freed


def _prepared(cache: Path) -> Path:
    return cache / "prepared"


def _check_room(graph: Graph, folder: Path) -> None:
    existing = _existing(folder)
    if not _writable(folder):
        raise PermissionError(f"{existing} cannot be written")
    needed, free = disk_needed(graph), shutil.disk_usage(existing).free
    if free < needed:
        raise NoRoomToPrepare(
            f"Preparing {graph.path} for this processor may take {needed / 1e9:.1f} GB in {folder.parent}, and "
            f"{free / 1e9:.1f} GB are free: make room, set IMPASTO_CACHE to a folder on another disk, or draw with "
            "prepare=False."
        )


def _existing(folder: Path) -> Path:
    return next(parent for parent in folder.absolute().parents if parent.exists())


def _writable(folder: Path) -> bool:
    existing = _existing(folder)
    return existing.is_dir() and os.access(existing, os.W_OK)


def _check_graph(graph: Graph) -> None:
    """Check that a graph is the one that was exported, so that no changed one is prepared under its hash."""
    for path in graph.files:
        if graph.hashes.get(path.name) != sha256_of(path):
            raise BundleCorrupt(
                f"{path} is not the file that was exported (its hash differs): export or copy the bundle again."
            )


def _make(graph: Graph, folder: Path) -> None:
    own = hardware.processor()
    work = durable.new_folder(folder)
    try:
        options = session_options()
        options.optimized_model_filepath = str(work / _MODEL)
        options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_min_size_in_bytes", str(_MIN_MAPPED)
        )
        load(graph.path, options)
        give_back()
        # A graph whose weights are all small has no file of weights.
        (work / _WEIGHTS).touch()
        for name in (_MODEL, _WEIGHTS):
            _sync(work / name)
        files = {name: _describe(work / name) for name in (_MODEL, _WEIGHTS)}
        note = _Note(
            graph=dict(graph.hashes),
            processor=own.name,
            identity=own.identity,
            onnxruntime=ort.__version__,
            files=files,
        )
        durable.write(work / _NOTE, msgspec.json.format(msgspec.json.encode(note)))
        _put_in_place(work, folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _put_in_place(work: Path, folder: Path) -> None:
    """Rename `work` to `folder`. An old one (damaged, or made at the same time without locks) is moved away first."""
    if folder.exists():
        old = work.with_name(f"{work.name}-old")
        folder.rename(old)
        work.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        work.rename(folder)
    _sync(folder.parent)


def _sweep(folder: Path) -> None:
    """Delete the unfinished folders of processes that were killed."""
    for left in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(left, ignore_errors=True)


def _whole(folder: Path, note: _Note) -> bool:
    """True if the files are those of the note. Files whose stamp is unchanged are not read."""
    try:
        touched = {name: file for name, file in note.files.items() if _stamp(folder / name) != file.stamp}
        for name, file in touched.items():
            path = folder / name
            if path.stat().st_size != file.size or sha256_of(path) != file.sha256:
                return False
        if touched:
            files = note.files | {name: _describe(folder / name, file.sha256) for name, file in touched.items()}
            _remember(folder, msgspec.structs.replace(note, files=files))
    except OSError:
        return False
    return True


def _remember(folder: Path, note: _Note) -> None:
    """Save the note with new stamps, so that the next process need not hash; does nothing in a read-only folder."""
    try:
        durable.write(folder / _NOTE, msgspec.json.format(msgspec.json.encode(note)))
    except OSError:
        return


def _describe(path: Path, sha256: str | None = None) -> _File:
    return _File(sha256 or sha256_of(path), path.stat().st_size, _stamp(path))


def _stamp(path: Path) -> tuple[int, int, int]:
    """Inode and times of a file, which change whenever it is written, truncated, copied or replaced."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _sync(path: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
