"""Bytes that are no message, and what a log may show of one that is."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.errors import (
    MessageInvalid,
)
from edge_sdk.secure_aggregation import (
    Reveal,
    Roster,
    UnmaskRequest,
    bitmap,
    decode,
    device,
    encode,
    places,
    to_bytes,
)
from edge_sdk.secure_aggregation.keys import split_randomness
from tests.secure_aggregation.hostile import VICTIM, masked
from tests.secure_aggregation.world import identity, random_bytes, terms


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x93" * 5000,
        encode(Reveal(epoch=7, round=3, attempt=1, number=bytes(16)))[:-1],
        encode(Reveal(epoch=7, round=3, attempt=1, number=bytes(16))).replace(b"reveal", b"rewind"),
        encode(Reveal(epoch=7, round=3, attempt=1, number=bytes(15))),
        encode(UnmaskRequest(epoch=-1, round=3, attempt=1, survivors=b"\x01", dropped=b"\x00", ready=b"")),
        encode(Roster(epoch=7, round=3, attempt=1, neighbours=0, threshold=1, devices=[])),
    ],
)
def test_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(MessageInvalid, match="refused"):
        decode(data)


def test_bitmaps() -> None:
    assert bitmap({0, 9}, 10) == b"\x01\x02"
    assert places(b"\x01\x02", 10) == {0, 9}
    for wrong in (b"\x01", b"\x01\x02\x00", b"\x01\x04"):
        with pytest.raises(MessageInvalid, match="roster of 10"):
            places(wrong, 10)


def test_no_secret_is_shown_in_a_log() -> None:
    world, _ = masked()
    state = world.members[VICTIM].state
    secrets = split_randomness(random_bytes(VICTIM))
    shown = [
        repr(thing)
        for thing in (
            state,
            secrets,
            device.Rules(device=VICTIM, identity=identity(VICTIM)),
            device.Begin(terms(), random_bytes(VICTIM)),
            device.Vector(to_bytes(np.arange(8, dtype=np.uint32))),
            world.state,
        )
    ]
    hidden = [secrets.mask_seed, secrets.self_seed, secrets.share_private, identity(VICTIM), *state.held.values()]
    assert not any(repr(secret)[2:-1] in text for text in shown for secret in hidden)
