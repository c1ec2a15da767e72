"""Plans: the work that a RoundStart asks for, by which a device knows a round again."""

from __future__ import annotations

import hashlib

import msgspec
from msgspec.structs import replace

from edge_sdk.wire.messages import ClusterStart, Finished, RoundStart, Step
from edge_sdk.wire.transfer import DEFAULT_CHUNK


def without_deadline(step: Step) -> Step:
    """The step without its deadline, to compare steps that were sent at different times."""
    return step if isinstance(step, Finished) else replace(step, deadline=0.0)


def plan_id(federation: str, start: RoundStart | ClusterStart) -> str:
    """Id of the work that a RoundStart or ClusterStart asks for, 64 hex digits.

    It does not depend on the time, the attempt or the coordinator's start: a round that was abandoned and opened again
    has the same id. Nor does it depend on the slots of its sum, which follow when the work is done.
    """
    masking = start.masking and replace(start.masking, epoch=0)
    if isinstance(start, ClusterStart):
        said = msgspec.msgpack.decode(msgspec.msgpack.encode(replace(start, deadline=0.0, attempt=1, masking=masking)))
        if said["noise"] is None:
            del said["noise"]
        return hashlib.sha256(msgspec.msgpack.encode((federation, said))).hexdigest()
    # The size of chunks depends on the broker, and is no part of the work.
    pieces = [replace(manifest, chunk_size=DEFAULT_CHUNK) for manifest in start.frozen]
    starts = [manifest and replace(manifest, chunk_size=DEFAULT_CHUNK) for manifest in start.starts]
    begin = start.start and replace(start.start, chunk_size=DEFAULT_CHUNK)
    work = replace(
        start, deadline=0.0, attempt=0, frozen=pieces, start=begin, starts=starts, slots=b"", losses=None,
        masking=masking,
    )  # fmt: skip
    said = msgspec.msgpack.decode(msgspec.msgpack.encode(work))
    for later in ("slots", "losses", *(() if start.centroids else ("centroids", "starts"))):
        del said[later]
    if said["layers"] == "attention":  # not said by earlier versions, whose journals name plans without it
        del said["layers"]
    if said["masking"] is None:
        del said["masking"]
    return hashlib.sha256(msgspec.msgpack.encode((federation, said))).hexdigest()


def sum_id(federation: str, start: RoundStart | ClusterStart) -> str:
    """Id of the masked sum that a RoundStart or ClusterStart asks for, 64 hex digits.

    It is that of the work, but for the slots that each device puts its part into.
    """
    plan = plan_id(federation, start)
    if isinstance(start, ClusterStart) or not start.slots:
        return plan
    return hashlib.sha256(msgspec.msgpack.encode((plan, start.slots, start.losses))).hexdigest()
