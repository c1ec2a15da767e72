"""Masked sums (secure aggregation): a coordinator learns the sum of devices' vectors, and nothing else about them.

Double masking after Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017,
on the sparse graph of Bell et al., CCS 2020. Here are the arithmetic of both sides, the messages, and a device's half
as a pure state machine (`device`); the coordinator's half is `coordinator.secure_aggregation`. The modules, in the
order of their use: `policy`, `terms`, `messages`, `harary`, `keys`, `shares`, `masks`, `fixed_point`, `device`.

A device that lies about its own vector is not defended against: nobody sees it.
"""

from __future__ import annotations

from edge_sdk.secure_aggregation import device
from edge_sdk.secure_aggregation.fixed_point import (
    LARGEST,
    VALUE_BITS,
    Decoded,
    Layout,
    Mean,
    Scaled,
    check_devices,
    decoded,
    encoded,
)
from edge_sdk.secure_aggregation.harary import Graph, graph, ring_seed
from edge_sdk.secure_aggregation.keys import (
    RANDOM_BYTES,
    commitment,
    has_usable_keys,
    is_signed,
    mask_private_key,
    pair_mask_key,
    public_of,
    roster_hash,
    self_check,
    self_mask_key,
)
from edge_sdk.secure_aggregation.masks import Words, add_masks, from_bytes, mask, to_bytes
from edge_sdk.secure_aggregation.messages import (
    SEALED_BYTES,
    SHARE_BYTES,
    Advertise,
    Advertisement,
    Delivery,
    FromCoordinator,
    FromDevice,
    Message,
    Numbers,
    Reveal,
    Roster,
    Shares,
    UnmaskAnswer,
    UnmaskRequest,
    bitmap,
    decode,
    encode,
    places,
)
from edge_sdk.secure_aggregation.policy import (
    COMPLETE_BELOW,
    FEWEST_DEVICES,
    MOST_DEVICES,
    Parameters,
    Policy,
    parameters,
    shards,
)
from edge_sdk.secure_aggregation.shares import restored
from edge_sdk.secure_aggregation.terms import Terms

__all__ = [
    "COMPLETE_BELOW",
    "FEWEST_DEVICES",
    "LARGEST",
    "MOST_DEVICES",
    "RANDOM_BYTES",
    "SEALED_BYTES",
    "SHARE_BYTES",
    "VALUE_BITS",
    "Advertise",
    "Advertisement",
    "Decoded",
    "Delivery",
    "FromCoordinator",
    "FromDevice",
    "Graph",
    "Layout",
    "Mean",
    "Message",
    "Numbers",
    "Parameters",
    "Policy",
    "Reveal",
    "Roster",
    "Scaled",
    "Shares",
    "Terms",
    "UnmaskAnswer",
    "UnmaskRequest",
    "Words",
    "add_masks",
    "bitmap",
    "check_devices",
    "commitment",
    "decode",
    "decoded",
    "device",
    "encode",
    "encoded",
    "from_bytes",
    "graph",
    "has_usable_keys",
    "is_signed",
    "mask",
    "mask_private_key",
    "pair_mask_key",
    "parameters",
    "places",
    "public_of",
    "restored",
    "ring_seed",
    "roster_hash",
    "self_check",
    "self_mask_key",
    "shards",
    "to_bytes",
]
