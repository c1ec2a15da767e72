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
from pathlib import Path

import msgspec
import onnxruntime as ort

from edge_sdk import durable
from edge_sdk.errors import BundleCorrupt, PreparedElsewhere
from edge_sdk.inference.bundle import Graph, sha256_of
from edge_sdk.inference.runtime import cache as caching
from edge_sdk.inference.runtime import hardware
from edge_sdk.inference.runtime.memory import give_back
from edge_sdk.inference.runtime.sessions import load, session_options

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


class _Note(msgspec.Struct, frozen=True, kw_only=True):
    """The content of prepared.json."""

    format: int = 1
    graph: dict[str, str]
    processor: str
    identity: str
    onnxruntime: str
    files: dict[str, caching.File]


def pays(graph: Graph) -> bool:
    """True if a graph is worth preparing."""
    return bool(graph.hashes) and graph.size >= SMALL


def possible(graph: Graph, cache: Path) -> bool:
    """True if the graph is worth preparing, and is prepared already or the cache can be written."""
    return pays(graph) and (find(graph, cache) is not None or caching.writable(place(graph, cache)))


def disk_needed(graph: Graph) -> int:
    """Bytes that preparing the graph may take."""
    return int(DISK * graph.size)


def place(graph: Graph, cache: Path) -> Path:
    """Folder of the graph's preparation, which need not exist."""
    facts = [dict(sorted(graph.hashes.items())), hardware.processor().identity, ort.__version__, _MIN_MAPPED, 1]
    key = hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:24]
    return cache / caching.PREPARED / f"{graph.path.parent.name}-{key}"


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
    folder = place(graph, cache)

    def prepare() -> Path:
        _check_room(graph, folder)
        _check_graph(graph)
        _make(graph, folder)
        return folder / _MODEL

    return caching.made_once(folder, lambda: find(graph, cache), lambda: _check_room(graph, folder), prepare, PATIENCE)


def _check_room(graph: Graph, folder: Path) -> None:
    caching.check_room(
        folder, disk_needed(graph), f"Preparing {graph.path} for this processor", "draw with prepare=False"
    )


def _check_graph(graph: Graph) -> None:
    """Check that a graph is the one that was exported, so that no changed one is prepared under its hash."""
    for path in graph.files:
        if graph.hashes.get(path.name) != sha256_of(path):
            raise BundleCorrupt(
                f"{path} is not the file that was exported (its hash differs): export or copy the bundle again."
            )


def _make(graph: Graph, folder: Path) -> None:
    own = hardware.processor()

    def fill(work: Path) -> None:
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
        caching.sync(work / _MODEL, work / _WEIGHTS)
        note = _Note(
            graph=dict(graph.hashes),
            processor=own.name,
            identity=own.identity,
            onnxruntime=ort.__version__,
            files={name: caching.describe(work / name) for name in (_MODEL, _WEIGHTS)},
        )
        durable.write(work / _NOTE, msgspec.json.format(msgspec.json.encode(note)))

    caching.make(folder, fill)


def _whole(folder: Path, note: _Note) -> bool:
    """True if the files are those of the note. Files whose stamp is unchanged are not read."""
    touched = caching.touched(folder, note.files)
    if touched:
        _remember(folder, msgspec.structs.replace(note, files=note.files | touched))
    return touched is not None


def _remember(folder: Path, note: _Note) -> None:
    """Save the note with new stamps, so that the next process need not hash; does nothing in a read-only folder."""
    try:
        durable.write(folder / _NOTE, msgspec.json.format(msgspec.json.encode(note)))
    except OSError:
        return
