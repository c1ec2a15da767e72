"""The rules of the rounds: the part of the federation file about them."""

from __future__ import annotations

import msgspec

from edge_sdk.adapter import LayerSet, Share
from edge_sdk.privacy import Guarantee
from edge_sdk.wire import Masking


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the federation file about rounds; see `config.Federation` for meanings and units.

    Attributes:
        base_id: id of the base model.
        min_rank: smallest rank that a device may have.
        max_update: largest size of an update, in bytes.
        privacy: privacy level of prompt codes and picture codes.
        basis: id of the public basis that prompt codes are made with; empty if the level needs none.
        code_size: bytes of a prompt code; None: the base model does not state it.
        picture_size: bytes of a picture code; None: the bundle has no image encoder.
        picture_encoder: id of the image encoder that picture codes are made with; empty: the bundle has none.
        keep_rest: true if devices train on top of the adapter's part beyond their rank.
        name: name of the federation.
        epoch: epoch of this start of the coordinator.
        masking: the terms under which updates are summed, but for their epoch; None: each update is sent by itself.
        words: length of a masked vector, by what a round trains.
        slot_words: the same of one slot of it, where devices choose their clusters alone.
        smallest: smallest number of devices in a cluster, where devices choose theirs alone; 0: the coordinator knows
            the cluster of each.
        noise: what devices' answers to questions keep by their noise; None: they have none.
        patience: seconds that an exchange of a masked sum waits for a device.
        shares: factors that devices train and send in a stage's first, second, … round; the last one holds for all that
            follow.
    """

    base_id: str
    min_devices: int
    rounds: int
    root_rounds: int
    quorum: float
    deadline: float
    grace: float
    extensions: int
    rank: int
    min_rank: int
    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    max_update: int
    privacy: str
    basis: bytes = b""
    code_size: int | None = None
    picture_size: int | None = None
    picture_encoder: bytes = b""
    late: int = 0
    layers: LayerSet = "attention"
    keep_rest: bool = False
    name: str = ""
    epoch: int = 0
    masking: Masking | None = None
    words: dict[Share, int] = {}
    slot_words: dict[Share, int] = {}
    smallest: int = 0
    noise: Guarantee | None = None
    patience: float = 60.0
    shares: tuple[Share, ...] = (Share.BOTH,)

    @property
    def alone(self) -> bool:
        """True if devices choose their clusters alone, and the coordinator sees sums only."""
        return self.smallest > 0
