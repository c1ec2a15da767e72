"""Evidence of taste in the devices' last updates: bases for few devices, sketches for many.

Reading a basis from an update and its start takes some ten milliseconds. For many devices that would be minutes at
every clustering. So a sketch of each update is made once, when it arrives or is first needed, and stored under the hash
of all its inputs. A missing or damaged sketch is made again.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec
import numpy as np

from coordinator.methods.clustering import Sketch, Sketcher, Sketches, gathered
from coordinator.rounds import Trace
from coordinator.store import SketchStore
from edge_sdk.adapter import Bases

Basis: TypeAlias = Callable[[Trace], "Bases | None"]
"""Reads, for a trace, the left singular basis of the change by training, by layer; None if it cannot be known."""

_VERSION = 1  # of how a sketch is made
_CHECKSUM = 4  # bytes before the numbers


class Subspaces:
    """Bases and sketches of updates; sketches are stored.

    Args:
        basis: reads the basis of an update.
        layers: layer -> number of outputs, for every layer that adapters have.
        store: store of the sketches.
    """

    def __init__(self, basis: Basis, layers: Mapping[str, int], store: SketchStore) -> None:
        self._basis = basis
        self._sketcher = Sketcher(layers)
        self._store = store

    def bases(self, traces: Iterable[Trace | None]) -> list[Bases | None]:
        """Return the basis of each update; None without an update."""
        return [self._basis(trace) if trace else None for trace in traces]

    def sketches(self, traces: Sequence[Trace | None]) -> Sketches:
        """Return the sketches of all updates, in the order of the traces."""
        made = (self.sketch(trace) if trace else None for trace in traces)
        return gathered(made, len(traces), self._sketcher)

    def sketch(self, trace: Trace) -> Sketch | None:
        """Return the stored sketch; if there is none, make and store it."""
        data = self._store.get(self._name(trace))
        if data is not None and (kept := self._read(data)) is not None:
            return kept
        made = self.make(trace)
        if made is not None:
            self.keep(trace, made)
        return made

    def make(self, trace: Trace) -> Sketch | None:
        """Make a sketch; None if the update has no basis. From any thread."""
        return self.make_from(self._basis(trace))

    def make_from(self, basis: Bases | None) -> Sketch | None:
        """Make a sketch of a basis; None without one. From any thread."""
        return None if basis is None else self._sketcher(basis)

    def keep(self, trace: Trace, made: Sketch) -> None:
        """Store a sketch made by `make`."""
        numbers = made.tobytes()
        self._store.put(self._name(trace), zlib.crc32(numbers).to_bytes(_CHECKSUM, "big") + numbers)

    def forget_all_but(self, traces: Iterable[Trace]) -> None:
        """Delete the sketches of all other updates."""
        self._store.prune({self._name(trace) for trace in traces})

    def _name(self, trace: Trace) -> str:
        """Return the hash of all inputs of a sketch."""
        member = trace.member
        start = member.start.sha256 if member.start else None
        of = (_VERSION, self._sketcher.length, trace.update, start, member.rank, member.seed, member.share)
        return hashlib.sha256(msgspec.msgpack.encode(of)).hexdigest()

    def _read(self, data: bytes) -> Sketch | None:
        """Decode a stored sketch; None if it is damaged."""
        numbers = data[_CHECKSUM:]
        if len(numbers) != self._sketcher.length or zlib.crc32(numbers).to_bytes(_CHECKSUM, "big") != data[:_CHECKSUM]:
            return None
        return np.frombuffer(numbers, dtype=np.int8)
