"""Changes of the federation file between two starts: each is applied or refused, and reported.

Every key of the federation file is in `CHANGES`. Many keys cannot change once the first round has been opened:
adapters, moments and updates of earlier rounds were made with them, and would be dropped or misread silently. Pure: no
disk, no clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from coordinator.config.base_model import BaseModel
from coordinator.config.earlier import in_tables
from coordinator.config.federation import Federation
from coordinator.config.schema import Keys
from coordinator.config.tables import FAMILIES
from coordinator.methods.interaction import INTERACTIONS
from coordinator.rounds import Lineage, State
from edge_sdk.errors import ConfigurationError
from edge_sdk.privacy import LEVELS

How: TypeAlias = Literal["place", "connection", "now", "next", "fixed"]
"""Effect of a change of a key:

place: the key names the federation or where its files are; what is found there is checked, and refused if it belongs to
another federation.
connection: the change holds from this start on. It is not recorded, as it may contain secrets.
now: the change holds from this start on, also for the open round.
next: the change holds for everything that begins after this start; devices of an open round are asked again, with the
new value.
fixed: the change is refused once the first round has been opened.
"""

_GROUPS: dict[How, tuple[str, ...]] = {
    "place": ("name", "bundle", "slots", "home", "database", "blobs"),
    "connection": (
        "broker", "ca", "certificate", "key", "username", "password_file", "bandwidth", "keepalive",
    ),
    "now": (
        "join", "max_devices", "allow_plain", "device_messages", "device_bytes", "device_downloads", "device_storage",
        "min_devices", "rounds", "quorum", "deadline", "grace", "extensions", "late", "staleness",
        "aggregation.patience",
    ),
    "next": (
        "privacy", "steps", "batch_size", "learning_rate", "code_dimensions", "aggregation.max_weight",
        "aggregation.colluding", "aggregation.dropping", "aggregation.largest_weight", "aggregation.largest_change",
        "server_optimiser.method", "server_optimiser.learning_rate", "server_optimiser.momentum", "filter.method",
        "filter.liars", "clustering.method", "clustering.clusters", "clustering.choose", "clustering.recluster",
        "clustering.min_cluster", "clustering.most", "interaction.method", "interaction.rho", "interaction.tau",
    ),
    "fixed": (
        "root_rounds", "layers", "rank", "seed", "aggregation.method", "aggregation.server_rank", "aggregation.carry",
        "aggregation.masked", "epsilon", "delta",
    ),
}  # fmt: skip
CHANGES: Mapping[str, How] = MappingProxyType({key: how for how, keys in _GROUPS.items() for key in keys})
"""Key of the file, or table.key -> effect of its change."""
# The same of keys that methods of other packages bring: what an aggregator has learnt may depend on any of them.
_THEIRS: Mapping[str, How] = MappingProxyType(
    {table: "fixed" if table == "aggregation" else "next" for table in FAMILIES}
)

# Recorded beside the file's keys: names and shapes of the layers that devices train and that make up an update.
_SHAPES = "layer_shapes"

Settings: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Adopted:
    """Result of starting with a state that was found in the database.

    Attributes:
        state: the state to continue from.
        changed: key -> [before, now], of the values that hold from now on.
        notes: consequences of the changes, in words.
    """

    state: State
    changed: dict[str, list[Any]]
    notes: list[str]


def how_of(key: str) -> How:
    """Return the effect of a change of a key, which may be one of another package's method."""
    return CHANGES.get(key) or _THEIRS[key.partition(".")[0]]


def settings_of(federation: Federation, base: BaseModel) -> Settings:
    """Return the settings to record at a start, which the next start compares with its own."""
    noted = {key: getattr(federation, key) for key in Keys.__struct_fields__ if how_of(key) in ("now", "next", "fixed")}
    for table in FAMILIES:
        noted |= {f"{table}.{key}": value for key, value in msgspec.to_builtins(getattr(federation, table)).items()}
    shapes = sorted((name, shape.in_features, shape.out_features) for name, shape in base.slots.items())
    return {**noted, _SHAPES: hashlib.sha256(msgspec.msgpack.encode(shapes)).hexdigest()}


def adopt(state: State, before: Settings | None, federation: Federation, base: BaseModel) -> Adopted:
    """Continue from a state with this file.

    Args:
        state: the state in the database.
        before: the settings recorded at the last start; None if there are none.
        federation: the federation file, loaded.
        base: its base model.

    Raises:
        ConfigurationError: a key was changed that is fixed by now, or more rounds are wanted where none can follow.
    """
    now = settings_of(federation, base)
    noted = in_tables(before or {})
    changed = {key: [old, now[key]] for key, old in noted.items() if key in now and now[key] != old}
    if state.attempt:
        _refuse(changed, federation)
    notes: list[str] = []
    if "server_optimiser.method" in changed and any(
        lineage.moments for lineage in (state.root, *state.clusters.values())
    ):
        state = _with_lineages(state, _without_moments)
        notes.append("the server optimiser begins without a memory of earlier rounds")
    if state.phase == "finished" and state.round < federation.rounds:
        state = _reopened(state, federation)
        notes.append(f"rounds {state.round + 1} to {federation.rounds} are still to come; devices join again for them")
    elif state.phase in ("gathering", "clustering") and 0 < federation.rounds <= state.round:
        state = replace(state, phase="finished")
        notes.append(f"{state.round} rounds are closed, which is enough now: devices take home what there is")
    return Adopted(state, changed, notes)


def _refuse(changed: Mapping[str, list[Any]], federation: Federation) -> None:
    for key, (old, new) in changed.items():
        fixed = key == _SHAPES or how_of(key) == "fixed"
        if (
            fixed
            or (key == "interaction.method" and _keeps_a(old, new))
            or (key == "privacy" and not (LEVELS[old].leaves and LEVELS[new].leaves))
        ):
            what = f"{key} is {new!r}" if key != _SHAPES else "the bundle has other layers that devices train"
            was = f"began with {key} = {old!r}" if key != _SHAPES else "began with others"
            raise ConfigurationError(
                f"Federation {federation.name!r} {was}, and now {what}: what its rounds have learnt would be lost. Set "
                f"it back; or begin anew with a new `home`, into which you copy keys.json of {federation.home}, so "
                "that devices go on trusting this coordinator."
            )


def _keeps_a(*interactions: str) -> bool:
    """True if one of these interactions fixes the clusters' factors A when they begin."""
    return any(name in INTERACTIONS and INTERACTIONS[name].frozen_a for name in interactions)


def _reopened(state: State, federation: Federation) -> State:
    """Return the finished state with its rounds open again.

    After the last round each adapter is in one piece; methods that fold continue with it as the folded part.
    """
    if federation.interaction.frozen_a:
        raise ConfigurationError(
            f"Federation {federation.name!r} has ended after {state.round} rounds, and with [interaction] method = "
            f"{federation.interaction.method!r} no more can follow: set rounds = {state.round}, or begin anew with a "
            "new `home`."
        )
    if federation.aggregator.folds:
        state = _with_lineages(state, _folded)
    return replace(state, phase="gathering", ends=None)


def _with_lineages(state: State, change: Any) -> State:
    clusters = {number: change(lineage) for number, lineage in state.clusters.items()}
    return replace(state, root=change(state.root), clusters=clusters)


def _without_moments(lineage: Lineage) -> Lineage:
    return replace(lineage, moments=None)


def _folded(lineage: Lineage) -> Lineage:
    return lineage if lineage.folded else Lineage(folded=lineage.start)


def describe_changes(changed: dict[str, list[Any]], notes: list[str]) -> str:
    """Return the event `settings_changed` in words."""
    parts = [f"{key} = {new!r} (was {old!r})" for key, (old, new) in sorted(changed.items())]
    return "; ".join([*parts, *notes])
