"""The federation file as it is written: its keys, their types and their bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from edge_sdk.adapter import LayerSet
from edge_sdk.privacy import LARGEST_DELTA, LARGEST_EPSILON
from edge_sdk.transport import Settings
from edge_sdk.wire import Count, Name, Positive, Rank

Span: TypeAlias = Annotated[float, Meta(gt=0, le=1e7)]
"""Seconds of a wait."""
Bytes: TypeAlias = Annotated[int, Meta(ge=0, le=2**40)]
"""A limit in bytes; 0: it follows from the size of an update."""


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of the file that hold as they are written. All times are in seconds.

    Attributes:
        name: name of the federation, one level of an MQTT topic.
        broker: URL of the broker, mqtt://host:port or mqtts://host:port.
        username: user name at the broker; None: the one in the broker's URL, if any.
        bandwidth: rate of chunks to all devices together, such as "512 KB/s"; None: no limit. Other messages do not
            wait.
        keepalive: MQTT keep-alive in seconds; a connection that is silent 1.5 times as long counts as lost.
        join: devices that may join: "open", all that the broker lets in; "invited", those with an invitation.
        privacy: privacy level of the codes that devices send, a key of `edge_sdk.privacy.LEVELS`.
        epsilon: bound, at level "local+dp", of what all answers of a device to questions about its taste tell together;
            0: there is none.
        delta: probability with which that bound may not hold.
        allow_plain: true to allow the level "plain", from which captions can be found again.
        max_devices: number of devices that may have joined.
        device_messages: messages that one device may send in a minute, chunks not counted.
        device_bytes: bytes that one device may send in a minute, chunks included; 0: eight updates, at least 128 MiB.
        device_downloads: bytes of chunks that one device may request in a minute; 0: 64 updates, at least 1 GiB.
        device_storage: bytes that the updates of one device may bring in during a round; 0: eight updates.
        min_devices: number of present devices that start the first round; later rounds need `quorum` of it.
        rounds: number of rounds in all.
        root_rounds: number of rounds, the first of them, that train the root adapter.
        quorum: share, in (0, 1], of the devices that must deliver before the deadline may close a round.
        deadline: seconds that a round waits for updates.
        grace: seconds that a device is waited for after it went offline, or after its last message if it shows no
            presence.
        extensions: number of further deadlines that a round without quorum waits.
        late: number of rounds after its own in which an update still counts.
        staleness: exponent of a late update's weight, (1 + rounds late)^-staleness.
        layers: set of layers that devices train; the bundle has to have slots for them.
        rank: LoRA rank that devices train; a device may train less if the method mixes ranks.
        steps: training steps in a round.
        batch_size: pictures in a training step.
        learning_rate: learning rate of the devices' optimiser, in (0, 1].
        seed: seed of the initial adapters.
        code_dimensions: numbers in a prompt code of level "plain"; 0: as many as the base model's text condition has.
    """

    name: Name
    broker: str = "mqtt://127.0.0.1:1883"
    username: str | None = None
    bandwidth: str | None = None
    keepalive: Annotated[int, Meta(ge=5, le=3600)] = Settings.keepalive

    join: Literal["open", "invited"] = "open"
    privacy: Literal["plain", "coarse", "local", "local+dp"] = "coarse"
    epsilon: Annotated[float, Meta(ge=0, le=LARGEST_EPSILON)] = 0.0
    delta: Annotated[float, Meta(gt=0, le=LARGEST_DELTA)] = 1e-5
    allow_plain: bool = False
    max_devices: Positive = 10_000
    device_messages: Annotated[int, Meta(ge=10, le=10**6)] = 1200
    device_bytes: Bytes = 0
    device_downloads: Bytes = 0
    device_storage: Bytes = 0
    min_devices: Positive = 2
    rounds: Positive = 5
    root_rounds: Count = 0
    quorum: Annotated[float, Meta(gt=0, le=1)] = 0.6
    deadline: Span = 600.0
    grace: Span = 30.0
    extensions: Count = 2
    late: Annotated[int, Meta(ge=0, le=100)] = 0
    staleness: Annotated[float, Meta(ge=0, le=100)] = 0.5

    layers: LayerSet = "attention"
    rank: Rank = 8
    steps: Positive = 40
    batch_size: Positive = 8
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 1e-3
    seed: Count = 0
    code_dimensions: Annotated[int, Meta(ge=0, le=4096)] = 0

    def __repr__(self) -> str:
        """Text without the broker's URL and the database's, which may contain passwords."""
        return f"{type(self).__name__}({self.name!r})"


class FederationFile(Keys, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The federation file, with its paths and tables as they are written; `resolve` makes a `Federation` of it.

    Attributes:
        ca: PEM file of the authority that signed the broker's certificate; None: the system's authorities.
        certificate, key: PEM files of the coordinator's own certificate and key; both or neither.
        password_file: file with the password.
        bundle: folder of the base model's bundle, of which only impasto.json is read.
        slots: copy of that impasto.json, in place of `bundle`.
        home: folder of database, blobs and unfinished updates; None: NAME.coordinator beside the file.
        database: SQLAlchemy URL; None: SQLite in `home`.
        blobs: folder or fsspec URL of the adapters; None: a folder in `home`.
        aggregation, server_optimiser, filter, clustering, interaction: tables of methods, see `tables.FAMILIES`.
    """

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    password_file: str | None = None
    bundle: str | None = None
    slots: str | None = None
    home: str | None = None
    database: str | None = None
    blobs: str | None = None

    aggregation: dict[str, Any] = {}
    server_optimiser: dict[str, Any] = {}
    filter: dict[str, Any] = {}
    clustering: dict[str, Any] = {}
    interaction: dict[str, Any] = {}
