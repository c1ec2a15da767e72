"""What the devices' last updates say about their tastes: bases of few devices, sketches of many.

A basis is read from the update and what it started from, which takes some ten milliseconds. Of many devices that would
be minutes at every clustering, so a sketch of each is made once, when the update arrives or is first asked for, and
kept by the hash of all that it was made from. A sketch that is missing or damaged is made again.
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
"""What a device's last training changed: by layer the left singular basis; None if it cannot be known."""

_VERSION = 1  # of how a sketch is made
_CHECKSUM = 4  # bytes before the numbers


class Subspaces:
    """Args: basis: reads one; layers: the outputs of every layer that adapters have; store: where sketches are kept."""

    def __init__(self, basis: Basis, layers: Mapping[str, int], store: SketchStore) -> None:
        self._basis = basis
        self._sketcher = Sketcher(layers)
        self._store = store

    def bases(self, traces: Iterable[Trace | None]) -> list[Bases | None]:
        return [self._basis(trace) if trace else None for trace in traces]

    def sketches(self, traces: Sequence[Trace | None]) -> Sketches:
        made = (self.sketch(trace) if trace else None for trace in traces)
        return gathered(made, len(traces), self._sketcher.length)

    def sketch(self, trace: Trace) -> Sketch | None:
        """The one that is kept; or made, and kept from now on."""
        data = self._store.get(self._name(trace))
        if data is not None and (kept := self._read(data)) is not None:
            return kept
        made = self.make(trace)
        if made is not None:
            self.keep(trace, made)
        return made

    def make(self, trace: Trace) -> Sketch | None:
        """A new one; None if there is nothing to make it of. From any thread."""
        basis = self._basis(trace)
        return None if basis is None else self._sketcher(basis)

    def keep(self, trace: Trace, made: Sketch) -> None:
        """Keep the one that `make` has made."""
        numbers = made.tobytes()
        self._store.put(self._name(trace), zlib.crc32(numbers).to_bytes(_CHECKSUM, "big") + numbers)

    def forget_all_but(self, traces: Iterable[Trace]) -> None:
        """Delete the sketches of updates that count no more."""
        self._store.prune({self._name(trace) for trace in traces})

    def _name(self, trace: Trace) -> str:
        """The hash of all that a sketch depends on."""
        member = trace.member
        start = member.start.sha256 if member.start else None
        of = (_VERSION, self._sketcher.length, trace.update, start, member.rank, member.seed, member.share)
        return hashlib.sha256(msgspec.msgpack.encode(of)).hexdigest()

    def _read(self, data: bytes) -> Sketch | None:
        """None if it is damaged."""
        numbers = data[_CHECKSUM:]
        if len(numbers) != self._sketcher.length or zlib.crc32(numbers).to_bytes(_CHECKSUM, "big") != data[:_CHECKSUM]:
            return None
        return np.frombuffer(numbers, dtype=np.int8)
