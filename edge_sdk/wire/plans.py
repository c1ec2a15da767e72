"""Plans: the work that a RoundStart asks for, by which a device knows a round again."""

from __future__ import annotations

import hashlib

import msgspec
from msgspec.structs import replace

from edge_sdk.wire.messages import RoundStart, Step
from edge_sdk.wire.transfer import DEFAULT_CHUNK


def without_deadline(step: Step) -> Step:
    """The step without its deadline, to compare steps that were sent at different times."""
    return replace(step, deadline=0.0) if isinstance(step, RoundStart) else step


def plan_id(federation: str, start: RoundStart) -> str:
    """Id of the work that a RoundStart asks for, 64 hex digits.

    It does not depend on the time, the attempt or the coordinator's start: a round that was abandoned and opened again
    has the same id.
    """
    # The size of chunks depends on the broker, and is no part of the work.
    pieces = [replace(manifest, chunk_size=DEFAULT_CHUNK) for manifest in start.frozen]
    begin = start.start and replace(start.start, chunk_size=DEFAULT_CHUNK)
    masking = start.masking and replace(start.masking, epoch=0)
    work = replace(start, deadline=0.0, attempt=0, frozen=pieces, start=begin, masking=masking)
    said = msgspec.msgpack.decode(msgspec.msgpack.encode(work))
    if said["layers"] == "attention":  # not said by earlier versions, whose journals name plans without it
        del said["layers"]
    if said["masking"] is None:
        del said["masking"]
    return hashlib.sha256(msgspec.msgpack.encode((federation, said))).hexdigest()
