"""Memory of a training: the best way to train within a limit, and the peak that it predicts.

The limit counts the process's anonymous memory and the pages of the libraries' code. Weights are mapped, so that the
system drops them when memory is short; they are read again at every step then. From the best way to the slowest:

    all weights stay in memory    in the precision that they are computed in, else in bfloat16
                                  all pictures of a step at once, else some after the other (their gradients add up)
                                  the same with checkpointing, which computes the UNet a second time
    weights are read again        in bfloat16, with checkpointing
    fewer layers                  only if they may be chosen: another set of layers is another adapter
    smaller pictures              only if they may be chosen
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.adapter import LayerSet
from edge_sdk.errors import MemoryLimitTooSmall
from edge_sdk.inference.runtime import show_size
from edge_sdk.training.base_model import Storage

# Sides in pixels to which larger pictures are reduced if nothing else helps.
SIZES = (512, 384, 256)
# Bytes of pages of the libraries' code that a training uses again and again.
LIBRARIES = 130_000_000
# Bytes that kernels, their threads and what the first step imports take beside its tensors.
KERNELS = 40_000_000
# Float32 numbers of each parameter beside those that a step counts: Adam's moments, the best of a guard, a checkpoint.
_STATE = 8


@dataclass(frozen=True)
class Way:
    """A way to train, whose memory is known by a dry run.

    Attributes:
        image_size: side of the pictures in pixels.
        storage: the type of the UNet's matrices.
        checkpointing: activations are computed a second time instead of being kept.
        at_once: pictures whose gradients are computed at once; those of a step add up.
    """

    image_size: int
    layers: LayerSet
    storage: Storage
    checkpointing: bool
    at_once: int


@dataclass(frozen=True)
class Budget:
    """The way that a training goes, and the memory that it is predicted to take.

    Attributes:
        way: the way.
        batch_size: pictures of a step.
        anonymous: bytes of anonymous memory at the peak.
        file: bytes of the weights' mapped pages, which the system drops when memory is short.
        limit: bytes that it may take.
        rereads: the weights do not all fit beside the anonymous memory, and are read from disk again at every step.
    """

    way: Way
    batch_size: int
    anonymous: int
    file: int
    limit: int
    rereads: bool

    def __str__(self) -> str:
        way = self.way
        said = [
            f"pictures of {way.image_size} x {way.image_size}",
            f"layers {way.layers}",
            f"weights in {'bfloat16' if way.storage == 'bf16' else 'float32'}",
            f"{way.at_once} of {self.batch_size} pictures at once",
            f"{'with' if way.checkpointing else 'without'} checkpointing",
        ]
        again = ", read again at every step" if self.rereads else ""
        return (
            f"within {show_size(self.limit)}: {', '.join(said)}; predicted peak {show_size(self.anonymous)} of "
            f"anonymous memory, and {show_size(self.file)} of mapped weights{again}"
        )


@dataclass(frozen=True)
class Facts:
    """Facts on which the memory of a training depends.

    Attributes:
        model: for messages.
        process: bytes of anonymous memory of the process before.
        mapped: the weights are pages of a mapped file.
        weights: bytes of the UNet's weights by their storage.
        storages: those that may be chosen, the best first.
        encoding: side of the pictures -> bytes that encoding them takes for a moment, beside the process.
        step: bytes of tensors at the peak of the step of a way.
        parameters: trained numbers of a set of layers.
    """

    model: Path
    process: int
    mapped: bool
    weights: Mapping[Storage, int]
    storages: Sequence[Storage]
    encoding: Callable[[int], int]
    step: Callable[[Way], int]
    parameters: Callable[[LayerSet], int]


def chosen(facts: Facts, limit: int, batch_size: int, sizes: Sequence[int], layers: Sequence[LayerSet]) -> Budget:
    """The best way to train within a limit.

    Args:
        limit: bytes.
        sizes, layers: those that may be chosen, the best first.

    Raises:
        MemoryLimitTooSmall: none fits.
    """
    smallest: Budget | None = None
    for way, resident in _ways(facts, batch_size, sizes, layers):
        file = facts.weights[way.storage] if facts.mapped else 0
        stays = LIBRARIES + (file if resident else 0)
        if resident and facts.process + stays > limit:
            continue  # it needs no dry run
        found = Budget(way, batch_size, _anonymous(facts, way), file, limit, facts.mapped and not resident)
        if found.anonymous + stays <= limit:
            return found
        if smallest is None or found.anonymous <= smallest.anonymous:
            smallest = found
    assert smallest is not None  # there is always a way to try
    way = smallest.way
    needed = smallest.anonymous + LIBRARIES
    raise MemoryLimitTooSmall(
        f"Training {facts.model} does not fit into {show_size(limit)}: it takes {show_size(needed)} even with pictures "
        f"of {way.image_size} x {way.image_size}, layers {way.layers}, one picture at once and checkpointing, of which "
        f"the process itself has {show_size(facts.process)}, and encoding pictures takes "
        f"{show_size(facts.encoding(way.image_size))} for a moment. Give memory_limit={show_size(1.02 * needed)!r} or "
        "more, a smaller rank, or a smaller base model."
    )


def _ways(
    facts: Facts, batch_size: int, sizes: Sequence[int], layers: Sequence[LayerSet]
) -> Iterator[tuple[Way, bool]]:
    """All ways, the best first, each with whether all weights have to stay in memory for it."""
    parts = sorted({max(1, batch_size >> halvings) for halvings in range(batch_size.bit_length())}, reverse=True)
    for size in sizes:
        for of in layers:
            for storage in facts.storages:
                for checkpointing in (False, True):
                    yield from ((Way(size, of, storage, checkpointing, at_once), True) for at_once in parts)
            yield from ((Way(size, of, facts.storages[-1], True, at_once), False) for at_once in parts)


def _anonymous(facts: Facts, way: Way) -> int:
    """Bytes at the peak: of encoding, or of a step."""
    step = facts.step(way) + 4 * _STATE * facts.parameters(way.layers) + KERNELS
    own = 0 if facts.mapped else facts.weights[way.storage]
    return facts.process + max(step + own, facts.encoding(way.image_size))
