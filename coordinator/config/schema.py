"""The federation file: one TOML file holds all settings of an operator."""

from __future__ import annotations

import difflib
import json
import re
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from coordinator.ingress import Limits
from coordinator.methods.aggregation import AGGREGATORS
from coordinator.methods.clustering import CLUSTERERS, RULES
from coordinator.methods.interaction import INTERACTIONS
from coordinator.methods.optimisers import OPTIMISERS, Pace
from coordinator.methods.robust import FILTERS
from coordinator.rounds import Rules
from edge_sdk.adapter import MAX_RANK, TRAINED, Shape, Share
from edge_sdk.errors import BrokerSettingsInvalid, ConfigurationError
from edge_sdk.paths import expanded
from edge_sdk.transport import Settings, Tls, check, read_bandwidth, read_secret
from edge_sdk.wire import MAX_CHUNK, NAME, Count, Name, Positive, Rank

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# A clustering for `impasto-coordinator simulate` only, not for `serve`: see coordinator/simulation/ifca.py.
IFCA = "ifca"

# Smallest values of `device_bytes` and `device_downloads`, unless the file sets them.
_LEAST_BYTES = 128 << 20
_LEAST_DOWNLOADS = 1 << 30
# Slots whose input is the UNet's condition.
_CONDITIONED = (".attn2.to_k", ".attn2.to_v")
# Download allowance in updates a minute: all clusters' adapters at the end, and the adapters under them.
_DOWNLOADS = 64

# An SQLite URL without a host: its driver, its file and its query.
_SQLITE = re.compile(r"(sqlite(?:\+\w+)?):(?://(?:/([^?]*))?)?((?:\?.*)?)")

Part = Annotated[float, Meta(ge=0, le=1)]
Span = Annotated[float, Meta(gt=0, le=1e7)]


class Federation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The federation file, checked; `load` also resolves its paths against the file's folder. All times are in seconds.

    Attributes:
        name: name of the federation, one level of an MQTT topic.
        broker: URL of the broker, mqtt://host:port or mqtts://host:port.
        ca: PEM file of the authority that signed the broker's certificate; None: the system's authorities.
        certificate, key: PEM files of the coordinator's own certificate and key; both or neither.
        username: user name at the broker; None: the one in the broker's URL, if any.
        password_file: file with the password.
        bandwidth: rate of chunks to all devices together, such as "512 KB/s"; None: no limit. Other messages do not
            wait.
        keepalive: MQTT keep-alive in seconds; a connection that is silent 1.5 times as long counts as lost.
        bundle: folder of the base model's bundle, of which only impasto.json is read.
        slots: copy of that impasto.json, in place of `bundle`.
        home: folder of database, blobs and unfinished updates; None: NAME.coordinator beside the file.
        database: SQLAlchemy URL; None: SQLite in `home`.
        blobs: folder or fsspec URL of the adapters; None: a folder in `home`.
        join: devices that may join: "open", all that the broker lets in; "invited", those with an invitation.
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
        rank: LoRA rank that devices train; a device may train less if the method mixes ranks.
        steps: training steps in a round.
        batch_size: pictures in a training step.
        learning_rate: learning rate of the devices' optimiser, in (0, 1].
        seed: seed of the initial adapters.
        code_dimensions: numbers in a prompt code; 0: as many as the base model's text condition has.
        aggregation: name of the aggregator.
        server_rank: rank of the root and cluster adapters while they are trained; 0: `rank`.
        carry: true if devices train on top of the part of the adapter beyond their rank (aggregators that carry only).
        server_optimiser: name of the server optimiser.
        server_learning_rate: its learning rate; 0: its default.
        server_momentum: its momentum, in [0, 1); None: its default.
        filter: name of the filter of updates.
        liars: share, in [0, 0.5), of the devices that the filter assumes to lie.
        clustering: name of the clusterer.
        clusters: number of clusters; 0: found by `choose`.
        choose: name of the rule that finds the number of clusters.
        recluster: "every" round, or on "drift", when the clusters no longer fit.
        min_cluster: smallest number of devices in a cluster.
        interaction: name of the interaction between clusters.
        rho: share, in [0, 1], of a cluster's adapter that attention over all clusters replaces.
        tau: temperature of this attention; small values attend to similar clusters only.
    """

    name: Name
    broker: str = "mqtt://127.0.0.1:1883"
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    username: str | None = None
    password_file: str | None = None
    bandwidth: str | None = None
    keepalive: Annotated[int, Meta(ge=5, le=3600)] = Settings.keepalive
    bundle: str | None = None
    slots: str | None = None
    home: str | None = None
    database: str | None = None
    blobs: str | None = None

    join: Literal["open", "invited"] = "open"
    max_devices: Positive = 10_000
    device_messages: Annotated[int, Meta(ge=10, le=10**6)] = 1200
    device_bytes: Annotated[int, Meta(ge=0, le=2**40)] = 0
    device_downloads: Annotated[int, Meta(ge=0, le=2**40)] = 0
    device_storage: Annotated[int, Meta(ge=0, le=2**40)] = 0
    min_devices: Positive = 2
    rounds: Positive = 5
    root_rounds: Count = 0
    quorum: Annotated[float, Meta(gt=0, le=1)] = 0.6
    deadline: Span = 600.0
    grace: Span = 30.0
    extensions: Count = 2
    late: Annotated[int, Meta(ge=0, le=100)] = 0
    staleness: Annotated[float, Meta(ge=0, le=100)] = 0.5

    rank: Rank = 8
    steps: Positive = 40
    batch_size: Positive = 8
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 1e-3
    seed: Count = 0
    code_dimensions: Annotated[int, Meta(ge=0, le=4096)] = 0

    aggregation: str = "product"
    server_rank: Annotated[int, Meta(ge=0, le=1024)] = 0
    carry: bool = True
    server_optimiser: str = "none"
    server_learning_rate: Annotated[float, Meta(ge=0, le=100)] = 0.0
    server_momentum: Annotated[float, Meta(ge=0, lt=1)] | None = None
    filter: str = "none"
    liars: Annotated[float, Meta(ge=0, lt=0.5)] = 0.2
    clustering: str = "fused"
    clusters: Count = 0
    choose: str = "significant"
    recluster: Literal["every", "drift"] = "every"
    min_cluster: Positive = 2
    interaction: str = "attention"
    rho: Part = 0.1
    tau: Annotated[float, Meta(gt=0, le=100)] = 0.5

    @property
    def carries(self) -> bool:
        """True if devices train on top of the adapter's part beyond their rank, see `Aggregator.carries`."""
        return self.carry and AGGREGATORS[self.aggregation].carries

    @property
    def group_rank(self) -> int:
        """Rank of root and cluster adapters while they are trained."""
        return self.server_rank or self.rank

    @property
    def pace(self) -> Pace:
        """Learning rate and momentum of the server optimiser."""
        own, momentum = OPTIMISERS[self.server_optimiser], self.server_momentum
        return Pace(self.server_learning_rate or own.learning_rate, own.momentum if momentum is None else momentum)

    def __repr__(self) -> str:
        """Text without the broker's URL, which may contain a password."""
        return f"Federation({self.name!r})"

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
            ConfigurationError: the clustering is IFCA, which the round machine does not support.
        """
        if self.clustering == IFCA:
            raise ConfigurationError(
                f'clustering = "{IFCA}": devices choose their clusters by loss, which real ones do not do. It works in '
                f"`impasto-coordinator simulate` only; to serve, use one of {', '.join(CLUSTERERS)}."
            )
        ours = set(Rules.__struct_fields__) - {"code_dimensions"}
        own = {name: getattr(self, name) for name in ours if hasattr(self, name)}
        method = AGGREGATORS[self.aggregation]
        shares = tuple(method.share(turn) for turn in range(self.rounds))
        min_rank = 1 if method.mixed_ranks else self.rank
        return Rules(
            **own,
            base_id=base.base_id,
            max_update=base.update_size(self.rank),
            code_dimensions=self.code_dimensions or base.code_dimensions,
            min_rank=min_rank,
            keep_rest=self.carries,
            shares=shares,
        )

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


class BaseModel(msgspec.Struct, frozen=True):
    """The coordinator's knowledge of the base model.

    Attributes:
        base_id: id of the base model.
        slots: name -> shape of each LoRA slot that devices train.
    """

    base_id: str
    slots: Mapping[str, Shape]

    def update_size(self, rank: int) -> int:
        """Return an upper bound, in bytes, of a float32 adapter of this rank over all slots, header included."""
        floats = sum(rank * (shape.in_features + shape.out_features) for shape in self.slots.values())
        return 4 * floats + 1024 * (len(self.slots) + 64)

    @property
    def code_dimensions(self) -> int | None:
        """Numbers in a prompt code: the width of the UNet's condition, whose mean it is. None if no slot shows it."""
        widths = {shape.in_features for name, shape in self.slots.items() if name.endswith(_CONDITIONED)}
        return widths.pop() if len(widths) == 1 else None


class _Slot(msgspec.Struct, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=500)]
    in_features: Annotated[int, Meta(ge=1, le=2**20)]
    out_features: Annotated[int, Meta(ge=1, le=2**20)]


class _Impasto(msgspec.Struct, frozen=True):
    """The part of impasto.json that the coordinator reads."""

    base_id: Annotated[str, Meta(min_length=1, max_length=128)]
    slots: Annotated[list[_Slot], Meta(min_length=1)]


def load(path: Path | str) -> Federation:
    """Read and check a federation file.

    Raises:
        ConfigurationError: the file is missing or is not TOML, a key or method is unknown, or a value is out of range.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"Cannot read the federation file {path}: {error}. `impasto-coordinator init {path}` writes one."
        ) from error
    return parse(text, folder=path.parent, source=str(path))


def parse(text: str, *, folder: Path, source: str = "federation file") -> Federation:
    """Parse and check the text of a federation file; relative paths are taken from `folder`. Raises as `load`."""
    try:
        table: dict[str, Any] = tomllib.loads(text)
    # A TOMLDecodeError is a ValueError; so are numbers of thousands of digits, brackets in brackets.
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{source} is not TOML: {str(error)[:500]}.") from error
    fields = Federation.__struct_fields__
    for unknown in table.keys() - set(fields):
        near = difflib.get_close_matches(unknown, fields, 1)
        meant = f"did you mean {near[0]!r}?" if near else "see docs/coordinator.md for the keys."
        raise ConfigurationError(f"{source}: there is no key {unknown[:200]!r}: {meant}")
    if isinstance(name := table.get("name"), str) and not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{source}: name = {name[:100]!r} cannot stand in a topic: use 1 to 64 letters a to z, digits, '.', '_' or "
            "'-', the first a letter or digit."
        )
    try:
        federation = msgspec.convert(table, Federation)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{source}: {str(error)[:500]}. See docs/coordinator.md for the keys.") from error
    _check_methods(federation, source)
    _check_sense(federation, source)
    beside = ("bundle", "slots", "ca", "certificate", "key", "password_file")
    files = {name: str(folder / expanded(path)) for name in beside if (path := getattr(federation, name))}
    home = folder / expanded(federation.home or f"{federation.name}.coordinator")
    database = _placed_database(federation.database, folder, source) if federation.database else None
    blobs = federation.blobs if "://" in (federation.blobs or "") else None
    if federation.blobs and blobs is None:
        blobs = str(folder / expanded(federation.blobs))
    return msgspec.structs.replace(
        federation,
        **files,
        home=str(home),
        database=database or f"sqlite:///{home / 'coordinator.sqlite'}",
        blobs=blobs or str(home / "blobs"),
    )


def _placed_database(url: str, folder: Path, source: str) -> str:
    """Return the database's URL with an SQLite file resolved against the folder, wherever `serve` is started."""
    found = _SQLITE.fullmatch(url)
    if found is None:
        return url
    driver, file, query = found.groups()
    if not file or file == ":memory:":
        raise ConfigurationError(
            f"{source}: database = {url!r} lies in memory: a restart would lose the federation. Give a file "
            "(sqlite:///coordinator.sqlite), or leave `database` out."
        )
    return f"{driver}:///{file if file.startswith('file:') else folder / expanded(file)}{query}"


def read_base_model(federation: Federation) -> BaseModel:
    """Read the base id and the slots that devices train from the bundle's impasto.json, or from its copy `slots`.

    Raises:
        ConfigurationError: the file is missing, was not written by the export, or has no slot that devices train.
    """
    path = Path(federation.bundle) / "impasto.json" if federation.bundle else Path(federation.slots or "")
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_Impasto)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot read {path}: {error}. `impasto-export MODEL BUNDLE` makes a bundle; name it as `bundle`."
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not the impasto.json of a bundle: {str(error)[:500]}.") from error
    trained = [slot for slot in content.slots if slot.name.endswith(TRAINED)]
    slots = {slot.name: Shape(slot.in_features, slot.out_features) for slot in trained}
    if not slots:
        raise ConfigurationError(f"{path} has no LoRA slot that devices train: export the bundle with attention slots.")
    return BaseModel(base_id=content.base_id, slots=slots)


def name_from(stem: str) -> str:
    """Return the federation's name for a file: letters without their accents, other characters as '-'.

    Raises:
        ConfigurationError: no character is left.
    """
    plain = unicodedata.normalize("NFKD", stem.replace("ß", "ss")).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("._-")[:64]
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"No federation's name can be made of {stem!r}: give the file a name with letters a to z or digits in it."
        )
    return name


def without_effect(federation: Federation) -> list[str]:
    """Return the changed keys that have no effect in this file, in words: one text for each reason."""
    of_choosing, of_listening = ("clusters", "choose", "min_cluster", "recluster"), ("rho", "tau")
    only_root, teaches = federation.root_rounds == federation.rounds, federation.interaction == "attention"
    one = federation.clustering != "single" and federation.clusters == 1
    turns = {AGGREGATORS[federation.aggregation].share(turn) for turn in range(2)}
    reasons = (
        (federation.interaction in ("none", "disjoint"), of_listening, f'interaction = "{federation.interaction}"'),
        (teaches and federation.rho == 0 and not only_root, ("tau",), "rho = 0"),
        (teaches and federation.clustering == "single" and not only_root, of_listening, "there is a single cluster"),
        (teaches and one and not only_root, of_listening, "clusters = 1"),
        (one, ("min_cluster", "recluster"), "clusters = 1"),
        (only_root, ("interaction", *of_listening), f"all rounds train the root (root_rounds = {federation.rounds})"),
        (federation.filter in ("none", "clip", "median"), ("liars",), f'filter = "{federation.filter}"'),
        (federation.late > 0 and federation.rounds == 1, ("late", "staleness"), "rounds = 1"),
        (
            federation.late == 1 and federation.rounds > 1 and len(turns) > 1,
            ("late", "staleness"),
            f'aggregation = "{federation.aggregation}" trains other factors in the next round (late = 2 reaches the '
            "one after it)",
        ),
        (federation.late == 0, ("staleness",), "late = 0"),
        (federation.clustering == "single", of_choosing, 'clustering = "single"'),
        (
            federation.clusters > 0 and federation.clustering != "single",
            ("choose",),
            f"clusters = {federation.clusters}",
        ),
        (not AGGREGATORS[federation.aggregation].carries, ("carry",), f'aggregation = "{federation.aggregation}"'),
    )
    default = dict(
        zip(
            Federation.__struct_fields__[-len(Federation.__struct_defaults__) :],
            Federation.__struct_defaults__,
            strict=True,
        )
    )
    found = []
    for holds, keys, cause in reasons:
        changed = [key for key in keys if getattr(federation, key) != default[key]]
        if holds and changed:
            found.append(f"{', '.join(changed)}: without effect, as {cause}")
    return found


def template(name: str, bundle: str, broker: str) -> str:
    """Return a commented federation file to start from."""
    return _TEMPLATE.format(name=name, bundle=_quoted(bundle), broker=_quoted(broker))


def _quoted(text: str) -> str:
    """Return a TOML string. JSON strings are valid TOML except for surrogate pairs and DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _check_methods(federation: Federation, source: str) -> None:
    registries: tuple[tuple[str, Mapping[str, object]], ...] = (
        ("aggregation", AGGREGATORS),
        ("server_optimiser", OPTIMISERS),
        ("filter", FILTERS),
        ("clustering", CLUSTERERS),
        ("choose", RULES),
        ("interaction", INTERACTIONS),
    )
    for key, registry in registries:
        value, names = getattr(federation, key), list(registry)
        if value not in names and (key, value) != ("clustering", IFCA):
            raise ConfigurationError(f"{source}: {key} = {value!r} is unknown; use one of {', '.join(names)}.")


def _check_sense(federation: Federation, source: str) -> None:
    if bool(federation.bundle) == bool(federation.slots):
        raise ConfigurationError(f"{source}: give either `bundle` (a folder) or `slots` (a copy of its impasto.json).")
    try:
        if federation.password_file and not (federation.username or Settings(federation.broker).credentials[0]):
            raise ConfigurationError("password_file needs `username`, or a user in the broker's URL.")
        # The password file is read only when it is needed.
        password = "in password_file" if federation.password_file else None
        check(msgspec.structs.replace(federation, password_file=None).connection(password))
    except (BrokerSettingsInvalid, ConfigurationError) as error:
        raise ConfigurationError(f"{source}: {error}") from error
    if bool(federation.certificate) != bool(federation.key):
        raise ConfigurationError(f"{source}: `certificate` and `key` belong together: give both or neither.")
    if federation.root_rounds and AGGREGATORS[federation.aggregation].home_factor:
        raise ConfigurationError(
            f"{source}: aggregation = {federation.aggregation!r} leaves a factor at home, so there can be no "
            "root adapter: set root_rounds = 0."
        )
    if federation.filter != "none" and AGGREGATORS[federation.aggregation].home_factor:
        raise ConfigurationError(
            f"{source}: filter = {federation.filter!r} cannot judge updates of {federation.aggregation!r}, whose other "
            'factor stays at home: set filter = "none".'
        )
    if federation.clustering == IFCA and not federation.clusters:
        raise ConfigurationError(
            f'{source}: clustering = "{IFCA}" cannot find the number of clusters: set clusters to it.'
        )
    trained = {AGGREGATORS[federation.aggregation].share(turn) for turn in range(federation.rounds)}
    if INTERACTIONS[federation.interaction].frozen_a and trained != {Share.B}:
        raise ConfigurationError(
            f"{source}: interaction = {federation.interaction!r} holds only while devices keep A: set "
            'aggregation = "ffa".'
        )
    method = AGGREGATORS[federation.aggregation]
    if INTERACTIONS[federation.interaction].whole and (method.folds or method.home_factor):
        raise ConfigurationError(
            f"{source}: interaction = {federation.interaction!r} mixes whole adapters of clusters, and aggregation = "
            f'{federation.aggregation!r} makes none: set interaction = "none".'
        )
    given = (
        ("server_momentum", federation.server_momentum is not None),
        ("server_learning_rate", bool(federation.server_learning_rate)),
    )
    unheeded = [key for key, there in given if there and federation.server_optimiser == "none"]
    if unheeded:
        raise ConfigurationError(
            f'{source}: {unheeded[0]} is of a server optimiser, and there is none: set server_optimiser = "momentum" '
            f'or "adam", or leave {unheeded[0]} out.'
        )
    if federation.server_optimiser != "none" and 2 * federation.group_rank >= MAX_RANK:
        raise ConfigurationError(
            f"{source}: server_optimiser = {federation.server_optimiser!r} puts adapters of two rounds together, which "
            f"leaves ranks below {MAX_RANK // 2} to each, not {federation.group_rank}: lower server_rank or rank, or "
            'set server_optimiser = "none".'
        )
    if federation.server_optimiser != "none" and AGGREGATORS[federation.aggregation].folds:
        raise ConfigurationError(
            f"{source}: server_optimiser = {federation.server_optimiser!r} steps from one adapter to the next, but "
            f'aggregation = {federation.aggregation!r} folds what it learns away: set server_optimiser = "none".'
        )
    if federation.server_rank and federation.server_rank < federation.rank:
        raise ConfigurationError(
            f"{source}: server_rank = {federation.server_rank} is less than rank = {federation.rank}: leave it out, or "
            "lower `rank`, which is what devices train."
        )
    if federation.server_rank > federation.rank and not federation.carries:
        raise ConfigurationError(
            f"{source}: server_rank = {federation.server_rank} is more than devices train, and aggregation = "
            f'{federation.aggregation!r} carries nothing beyond that: use aggregation = "product" with carry = true, '
            "or leave server_rank out."
        )
    if federation.max_devices < federation.min_devices:
        raise ConfigurationError(
            f"{source}: max_devices = {federation.max_devices} is less than min_devices = {federation.min_devices}: no "
            "round would ever start."
        )
    if federation.root_rounds > federation.rounds:
        raise ConfigurationError(
            f"{source}: root_rounds = {federation.root_rounds} is more than rounds = {federation.rounds}."
        )


_TEMPLATE = """\
# A federation of Impasto: one base model and the devices that learn on top of it.
# Run it with: impasto-coordinator serve THIS_FILE
name = "{name}"
broker = {broker}                # mqtt://host:port, mqtts://host:port
# ca = "ca.pem"                  # with mqtts: the authority of the broker's certificate, if the system does not know it
# certificate = "coordinator.pem"# and who we are, for brokers that ask
# key = "coordinator.key"
# username = "coordinator"       # or by password, which is what password_file holds
# password_file = "password"
# bandwidth = "512 KB/s"         # of adapters to all devices together; messages do not wait
# keepalive = 30                 # seconds, times 1.5, after which a line that has fallen silent counts as lost
bundle = {bundle}                # folder written by impasto-export (only its impasto.json is read);
                                 # or: slots = "impasto.json", a copy of that file
# home = "{name}.coordinator"    # database and blobs lie here; a restart resumes from it
# database = "postgresql://..."  # any SQLAlchemy URL instead of SQLite in `home`
# blobs = "s3://bucket/prefix"   # any fsspec URL instead of `home`/blobs

# Rounds
join = "open"          # open: any device that the broker lets in; invited: those of `impasto-coordinator invite`
max_devices = 10000    # more are not registered
device_messages = 1200 # that one device may send in a minute; what is more is dropped, and told once a minute
device_bytes = 0       # the same for bytes, chunks included; 0: eight updates, at least 128 MiB
device_downloads = 0   # bytes that one device may be sent in a minute; 0: 64 updates, at least 1 GiB
device_storage = 0     # bytes that one device's updates of a round may bring in; 0: eight updates
min_devices = 2        # the first round starts when so many have joined
rounds = 5             # in all
root_rounds = 0        # of these, the first train a root adapter that all devices share, under their clusters'
quorum = 0.6           # share of a round's devices that must deliver before its deadline may close it
deadline = 600.0       # seconds a round waits
grace = 30.0           # seconds an offline device is still waited for
extensions = 2         # how often a round without quorum waits once more
late = 0               # so many rounds later an update still counts, at (1 + rounds late)^-staleness of its weight
staleness = 0.5

# What every device trains in a round
rank = 8
steps = 40
batch_size = 8
learning_rate = 1e-3   # for a hundred steps or more over all rounds; a few dozen want up to 3e-3
seed = 0
code_dimensions = 0    # numbers in a prompt code; 0: as wide as the base model's text condition

# Methods
aggregation = "product"    # product: exact mean of the products; docs/coordinator.md lists nine others
server_rank = 0            # rank of the adapters that devices start from; 0: the same as `rank`
carry = true               # devices of smaller rank train on top of all of it (product only)
server_optimiser = "none"  # devices go on from the mean; momentum, adam: beyond it
server_learning_rate = 0.0 # 0: its own (momentum 1, adam 0.01)
# server_momentum = 0.5      # left out, its own (momentum 0.5, adam 0.9)
filter = "none"            # whom to believe: clip, krum, median, trim; none believes everybody
liars = 0.2                # share of the devices that a filter assumes to lie
clustering = "fused"       # fused: prompt codes, then adapters as they arrive; prompt; adapter; single: one cluster
clusters = 0               # how many; 0 chooses by the next key
choose = "significant"     # silhouette: clear groups only; eigengap: fainter ones too; significant: those, if tested
recluster = "every"        # every: before every round; drift: when the clusters do not fit any more
min_cluster = 2            # no cluster is smaller
interaction = "attention"  # clusters teach each other; none: they do not; disjoint: each in a subspace of its own
rho = 0.1                  # how much of a cluster's adapter comes from the others' (and its own) by attention
tau = 0.5                  # temperature of that attention: small listens to similar clusters only
"""
