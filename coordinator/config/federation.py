"""The resolved settings of a federation: what the coordinator works with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from coordinator.config.base_model import BaseModel
from coordinator.config.schema import Keys
from coordinator.ingress import Limits
from coordinator.methods.aggregation import (
    AGGREGATORS,
    Aggregator,
    AggregatorSettings,
    CarryingSettings,
    MaskableSettings,
)
from coordinator.methods.clustering import CLUSTERERS, IFCA, BySums, Clusterer
from coordinator.methods.interaction import Interaction
from coordinator.methods.optimisers import ServerOptimiser
from coordinator.methods.robust import Filter
from coordinator.rounds import Rules
from edge_sdk.adapter import Share
from edge_sdk.errors import ConfigurationError
from edge_sdk.privacy import LEVELS, Guarantee, Level
from edge_sdk.secure_aggregation import Policy, layout_of
from edge_sdk.transport import Settings, Tls, read_bandwidth, read_secret
from edge_sdk.wire import MAX_CHUNK, Masking

# Smallest values of `device_bytes` and `device_downloads`, unless the file sets them.
_LEAST_BYTES = 128 << 20
_LEAST_DOWNLOADS = 1 << 30
# Download allowance in updates a minute: all clusters' adapters at the end, and the adapters under them.
_DOWNLOADS = 64
_SQLITE_FILE = "sqlite:///"


class Federation(Keys, frozen=True, kw_only=True):
    """A federation file, checked and resolved by `load`, `parse` or `resolve`.

    Its paths are seen from the file's folder, its tables are the settings of their methods. Its other attributes are
    those of `Keys`.

    Attributes:
        ca, certificate, key: PEM files for the connection to the broker, None as in the file.
        password_file: file with the password; None: there is none, or it is in the broker's URL.
        bundle: folder of the base model's bundle; None: the file names a copy of its impasto.json.
        description: that impasto.json, or its copy.
        home: folder of database, blobs and unfinished updates.
        database: SQLAlchemy URL.
        blobs: folder or fsspec URL of the adapters.
        aggregation: settings of the aggregator.
        server_optimiser: the server optimiser.
        filter: the filter of updates.
        clustering: the clusterer.
        interaction: the interaction between clusters.
    """

    ca: Path | None
    certificate: Path | None
    key: Path | None
    password_file: Path | None
    bundle: Path | None
    description: Path
    home: Path
    database: str
    blobs: str

    aggregation: AggregatorSettings
    server_optimiser: ServerOptimiser
    filter: Filter
    clustering: Clusterer
    interaction: Interaction

    @property
    def aggregator(self) -> type[Aggregator]:
        """The aggregator's class."""
        return AGGREGATORS[self.aggregation.method]

    @property
    def level(self) -> Level:
        """The privacy level of the devices' codes."""
        return LEVELS[self.privacy]

    @property
    def noise(self) -> Guarantee | None:
        """The guarantee that answers to questions keep by their noise; None if they have none, or no epsilon."""
        return Guarantee(epsilon=self.epsilon, delta=self.delta) if self.level.noisy and self.epsilon else None

    @property
    def carries(self) -> bool:
        """True if devices train on top of the adapter's part beyond their rank, see `Aggregator.carries`."""
        return isinstance(self.aggregation, CarryingSettings) and self.aggregation.carry and self.aggregator.carries

    @property
    def masking(self) -> Masking | None:
        """The terms under which updates are summed, for a start 0; None if each update is sent by itself."""
        own = self.aggregation
        if not (isinstance(own, MaskableSettings) and own.masked):
            return None
        return Masking(
            epoch=0,
            largest_weight=own.largest_weight,
            largest_change=own.largest_change or 2 * self.steps * self.learning_rate,
            colluding=own.colluding,
            dropping=own.dropping,
            security_bits=Policy().security_bits,
            failure_bits=Policy().failure_bits,
        )

    @property
    def group_rank(self) -> int:
        """Rank of root and cluster adapters while they are trained."""
        own = self.aggregation.server_rank if isinstance(self.aggregation, CarryingSettings) else 0
        return own or self.rank

    @property
    def database_file(self) -> Path | None:
        """The database's file; None if it is no plain SQLite file."""
        return Path(self.database.removeprefix(_SQLITE_FILE)) if self.database.startswith(_SQLITE_FILE) else None

    def connection(self, password: str | None = None) -> Settings:
        """Return the settings of the connection to the broker.

        Args:
            password: used in place of the content of `password_file`.

        Raises:
            ConfigurationError: the password file cannot be read or is empty, or `bandwidth` is no rate.
        """
        if self.password_file and password is None:
            password = read_secret(self.password_file, "password_file", "password")
        tls = Tls(self.ca, self.certificate, self.key) if self.ca or self.certificate or self.key else None
        return Settings(
            url=self.broker,
            username=self.username,
            password=password,
            tls=tls,
            bandwidth=read_bandwidth(self.bandwidth),
            keepalive=self.keepalive,
        )

    def rules(self, base: BaseModel) -> Rules:
        """Return the rules of the round machine for this base model.

        Raises:
            ConfigurationError: the clustering is IFCA, which the round machine does not support; or the bundle lacks
                the public basis that the privacy level needs.
        """
        if isinstance(self.clustering, IFCA):
            raise ConfigurationError(
                '[clustering] method = "ifca": devices choose their clusters by loss, which real ones do not do. It '
                f"works in `impasto-coordinator simulate` only; to serve, use one of {', '.join(CLUSTERERS)}."
            )
        ours = set(Rules.__struct_fields__) - {"masking"}
        own = {name: getattr(self, name) for name in ours if hasattr(self, name)}
        method = self.aggregator
        shares = tuple(method.share(turn) for turn in range(self.rounds))
        of_masks = self._of_masks(base, shares)
        vectors = [4 * words for words in of_masks.get("words", {}).values()]
        if isinstance(self.clustering, BySums):
            slots = self.clustering.largest * max(of_masks.get("slot_words", {}).values(), default=0)
            vectors = [*(size + 4 * slots for size in vectors), 4 * self.clustering.largest_answer]
        # The vectors of a masked sum have one length.
        min_rank = 1 if method.mixed_ranks and self.masking is None else self.rank
        return Rules(
            **own,
            base_id=base.base_id,
            max_update=max([base.update_size(self.rank), *vectors]),
            basis=self.basis_of(base),
            code_size=self.level.size(self.code_dimensions or base.code_dimensions),
            picture_size=base.picture_dimensions and self.level.picture_size(base.picture_dimensions),
            picture_encoder=base.picture_encoder,
            min_rank=min_rank,
            keep_rest=self.carries,
            shares=shares,
            smallest=self.clustering.min_cluster if isinstance(self.clustering, BySums) else 0,
            **of_masks,
        )

    def _of_masks(self, base: BaseModel, shares: Iterable[Share]) -> dict[str, Any]:
        """Return the rules of masked sums in rounds that train these factors."""
        own = self.aggregation
        if self.masking is None or not isinstance(own, MaskableSettings):
            return {}
        rank = self.rank
        sizes = {name: (rank * shape.in_features, shape.out_features * rank) for name, shape in base.slots.items()}
        layouts = {share: layout_of(sizes, self.masking, share) for share in shares}
        return {
            "masking": self.masking,
            "words": {share: layout.words for share, layout in layouts.items()},
            "slot_words": {share: layout.slot_words for share, layout in layouts.items()},
            "patience": own.patience,
        }

    def basis_of(self, base: BaseModel) -> bytes:
        """Return the id of the public basis that prompt codes are made with; empty if their level needs none.

        Raises:
            ConfigurationError: the bundle has no basis, and the level needs one.
        """
        if not self.level.needs_basis:
            return b""
        if base.basis is None:
            raise ConfigurationError(
                f"{self.description} has no public basis for prompt codes of level {self.privacy!r}: the bundle was "
                "exported by an earlier version. Export it again (`impasto-export`), and give devices the new bundle; "
                "what was learnt goes on, as the base id stays."
            )
        return base.basis

    def limits(self, max_update: int) -> Limits:
        """Return the limits of one device, for updates of at most `max_update` bytes.

        Raises:
            ConfigurationError: a limit is smaller than one update or one chunk.
        """
        # Room for chunks repeated over a slow connection, and for devices that retry.
        own = {
            "device_bytes": max(_LEAST_BYTES, 8 * max_update),
            "device_downloads": max(_LEAST_DOWNLOADS, _DOWNLOADS * max_update),
            "device_storage": 8 * max_update,
        }
        sizes = {key: getattr(self, key) or value for key, value in own.items()}
        if sizes["device_downloads"] < MAX_CHUNK:
            raise ConfigurationError(f"device_downloads = {self.device_downloads} is less than one chunk: raise it.")
        for key, size in sizes.items():
            if size < max_update:
                raise ConfigurationError(
                    f"{key} = {size} is less than one update of this federation may have, {max_update}: raise it, or "
                    "leave it out."
                )
        return Limits(
            messages=self.device_messages,
            bytes=sizes["device_bytes"],
            downloads=sizes["device_downloads"],
            storage=sizes["device_storage"],
            devices=self.max_devices,
        )
