"""Questions of level "local": what a coordinator asks all devices in one step of a clustering by sums.

A question holds centroids of several trials of k-means, which run side by side. Each device answers it with a vector of
integers (`answers`), of which the coordinator sees the sum over all devices only. Three kinds:

    spread      no centroids: how the devices' codes scatter about their mean, from which the trials' starts are drawn
    counts      how many devices are nearest to each centroid, and how clear their choices are
    places      the sum of the codes in each slot; centroids that too few devices chose share a slot with another one,
                so that no slot holds fewer than the smallest cluster

At level "local+dp" answers have noise (`noise`); there the spread is about a centre that is known already.

Codes are those of level "coarse". Centroids are in sixteenths of a code's step, so that all arithmetic is exact.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from edge_sdk.errors import AttemptMismatch, MessageInvalid
from edge_sdk.privacy.basis import DIMENSIONS
from edge_sdk.privacy.coarse import STEPS

Integers: TypeAlias = npt.NDArray[np.int64]
Kind: TypeAlias = Literal["spread", "counts", "places"]
SUBSTEPS = 16
"""Parts of a code's step in which centroids are given."""
FARTHEST = SUBSTEPS * STEPS
"""Largest coordinate of a centroid, either side of zero: the public radius."""
MOST_QUESTIONS = 16
"""Questions of one clustering that a device answers."""
MOST_CENTROIDS = 2048
"""Centroids in one question: 64 KiB, which fit into one message."""
MOST_IN_TRIAL = 64
"""Centroids in one trial."""
PAIRS = DIMENSIONS * (DIMENSIONS + 1) // 2
"""Products of two directions that a spread is made of."""
_Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """A question.

    Attributes:
        epoch: the coordinator's start in which the clustering was begun; it stays when the coordinator starts anew.
        clustering: number of the clustering.
        number: place of the question in its clustering, from 1.
        kind: the numbers that are asked for.
        sizes: number of centroids in each trial.
        centroids: (sum of sizes, DIMENSIONS) coordinates as little-endian int16, trial by trial.
        slots: a byte for each centroid, its slot in its trial, numbered by first appearance.
        around: a centroid about which codes are taken for answers with noise; empty: about zero, and for others.
    """

    epoch: _Count
    clustering: _Count
    number: Annotated[int, Meta(ge=1, le=MOST_QUESTIONS)]
    kind: Kind
    sizes: Annotated[tuple[Annotated[int, Meta(ge=1, le=MOST_IN_TRIAL)], ...], Meta(max_length=MOST_CENTROIDS)] = ()
    centroids: Annotated[bytes, Meta(max_length=2 * DIMENSIONS * MOST_CENTROIDS)] = b""
    slots: Annotated[bytes, Meta(max_length=MOST_CENTROIDS)] = b""
    around: Annotated[bytes, Meta(max_length=2 * DIMENSIONS)] = b""

    @cached_property
    def trials(self) -> tuple[tuple[Integers, Integers], ...]:
        """The centroids (k, DIMENSIONS) of each trial, and their slots (k,)."""
        places = places_of(self.centroids)
        slots = np.frombuffer(self.slots, np.uint8).astype(np.int64)
        ends = np.cumsum(self.sizes, dtype=np.int64)[:-1]
        return tuple(zip(np.split(places, ends), np.split(slots, ends), strict=True)) if self.sizes else ()

    @cached_property
    def slot_counts(self) -> tuple[int, ...]:
        """Number of slots of each trial."""
        return tuple(int(slots.max()) + 1 for _, slots in self.trials)

    @cached_property
    def layout(self) -> tuple[Integers, Integers, Integers]:
        """All centroids (n, DIMENSIONS), their slots (n,) counted over all trials, and each trial's first centroid."""
        centroids = np.concatenate([own for own, _ in self.trials])
        before = np.cumsum([0, *self.slot_counts[:-1]])
        slots = np.concatenate([own + first for (_, own), first in zip(self.trials, before, strict=True)])
        return centroids, slots, np.cumsum([0, *self.sizes[:-1]])

    @property
    def words(self) -> int:
        """Length of an answer."""
        if self.kind == "spread":
            return 1 + PAIRS if self.around else 1 + DIMENSIONS + PAIRS
        slots = sum(self.slot_counts)
        return slots + len(self.sizes) if self.kind == "counts" else slots * (1 + DIMENSIONS)


def read_question(data: bytes) -> Question:
    """Return the question in a message, checked as by `check_question`.

    Raises:
        MessageInvalid: it is none, or a value is not allowed.
    """
    try:
        question = msgspec.msgpack.decode(data, type=Question)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageInvalid(f"A question of a clustering cannot be read: {str(error)[:200]}") from error
    check_question(question)
    return question


def counts_question(centroids: bytes) -> Question:
    """Return the question that each round begins its sums with: how many devices are nearest to each centroid?

    Args:
        centroids: the published ones, as in a question.
    """
    clusters = len(centroids) // (2 * DIMENSIONS)
    return Question(
        epoch=0, clustering=0, number=1, kind="counts", sizes=(clusters,), centroids=centroids,
        slots=bytes(range(clusters)),
    )  # fmt: skip


def places_of(centroids: bytes) -> Integers:
    """Return published centroids (k, DIMENSIONS), in sixteenths of a step."""
    return np.frombuffer(centroids, "<i2").astype(np.int64).reshape(-1, DIMENSIONS)


def check_question(question: Question) -> None:
    """Raise MessageInvalid unless the parts of a question belong together and its centroids are inside the radius."""
    if not 1 <= question.number <= MOST_QUESTIONS:
        raise MessageInvalid(f"Question {question.number} of a clustering, which has {MOST_QUESTIONS} at most.")
    total = sum(question.sizes)
    if min(question.sizes, default=1) < 1 or max(question.sizes, default=1) > MOST_IN_TRIAL or total > MOST_CENTROIDS:
        raise MessageInvalid(
            f"A question with trials of up to {max(question.sizes)} centroids, {total} in all: it may have 1 to "
            f"{MOST_IN_TRIAL} in a trial, {MOST_CENTROIDS} in all."
        )
    if (len(question.centroids), len(question.slots)) != (2 * DIMENSIONS * total, total):
        raise MessageInvalid(
            f"A question with {len(question.centroids)} bytes of centroids and {len(question.slots)} slots for {total} "
            f"centroids of {DIMENSIONS} directions."
        )
    if (question.kind == "spread") != (not total):
        raise MessageInvalid(f"A question of the kind {question.kind} with {total} centroids.")
    if len(question.around) not in (0, 2 * DIMENSIONS) or np.abs(places_of(question.around)).max(initial=0) > FARTHEST:
        raise MessageInvalid(f"A question about a centre of {len(question.around)} bytes, or beyond the public radius.")
    for places, slots in question.trials:
        if np.abs(places).max() > FARTHEST:
            raise MessageInvalid(f"A centroid at {np.abs(places).max()}: the public radius is {FARTHEST}.")
        before = np.concatenate([[-1], np.maximum.accumulate(slots)[:-1]])
        if (slots > before + 1).any() or (question.kind == "counts" and (slots != np.arange(len(slots))).any()):
            raise MessageInvalid("The slots of a trial's centroids are not numbered by first appearance.")


def check_follows(question: Question, before: Question | None) -> None:
    """Raise AttemptMismatch unless a question comes after the last one that a device has answered, or is the same.

    A device may miss some, but not the first one. It sums codes only for centroids that were counted by the question
    right before: the coordinator has seen how many devices are in each slot.

    Args:
        question: a checked question.
        before: the last answered one of this epoch; None: none yet.
    """
    if question == before:
        return
    if before is not None and (question.epoch, question.clustering) == (before.epoch, before.clustering):
        if question.number <= before.number or question.kind == "spread":
            raise AttemptMismatch(
                f"Question {question.number} ({question.kind}) of clustering {question.clustering}, and the last one "
                f"was question {before.number}: it is out of its turn."
            )
        counted = (before.number + 1, "counts", before.sizes, before.centroids)
        if question.kind == "places" and counted != (question.number, before.kind, question.sizes, question.centroids):
            raise AttemptMismatch(
                f"Question {question.number} of clustering {question.clustering} asks for sums of codes about "
                "centroids that have not been counted before."
            )
        return
    if before is not None and (question.epoch, question.clustering) < (before.epoch, before.clustering):
        raise AttemptMismatch(
            f"A question of clustering {question.clustering} in epoch {question.epoch}, and this device has answered "
            f"one of clustering {before.clustering} in epoch {before.epoch}: it is out of date."
        )
    if question.number != 1 or question.kind != "spread":
        raise AttemptMismatch(
            f"Clustering {question.clustering} begins with question {question.number} ({question.kind}); this device "
            "was not asked the first one, and chooses among the published centroids when they are there."
        )
