"""Keys that were changed and have no effect in a federation file."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from coordinator.config.federation import Federation
from coordinator.config.schema import Keys
from coordinator.config.tables import FAMILIES, Family
from coordinator.methods import MethodSettings
from coordinator.methods.clustering import Grouping, Single


def without_effect(federation: Federation) -> list[str]:
    """Return the changed keys that have no effect in this file, in words: one text for each reason."""
    plain = {key for key, default in _defaults(Keys).items() if getattr(federation, key) != default}
    changed = plain.union(*(_changed(federation, table) for table in FAMILIES))
    found = []
    for keys, cause in (*_of_privacy(federation), *_of_rounds(federation), *_of_tables(federation)):
        if idle := [key for key in keys if key in changed]:
            found.append(f"{', '.join(idle)}: without effect, as {cause}")
    return found


def _of_privacy(federation: Federation) -> Iterator[tuple[tuple[str, ...], str]]:
    if federation.privacy != "plain":
        yield ("allow_plain", "code_dimensions"), f'privacy = "{federation.privacy}"'
    if not federation.level.noisy:
        yield ("epsilon", "delta"), f'privacy = "{federation.privacy}"'


def _of_rounds(federation: Federation) -> Iterator[tuple[tuple[str, ...], str]]:
    turns = {federation.aggregator.share(turn) for turn in range(2)}
    if federation.late and federation.rounds == 1:
        yield ("late", "staleness"), "rounds = 1"
    if federation.late == 1 and federation.rounds > 1 and len(turns) > 1:
        yield (
            ("late", "staleness"),
            f'[aggregation] method = "{federation.aggregation.method}" trains other factors in the next round (late = '
            "2 reaches the one after it)",
        )
    if not federation.late:
        yield ("staleness",), "late = 0"


def _of_tables(federation: Federation) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what one table makes of another, then what each makes of itself."""
    clustering, interaction = federation.clustering, federation.interaction
    of_interaction = tuple(f"interaction.{key}" for key in interaction.__struct_fields__ if key != "method")
    silent = {"interaction"} if federation.root_rounds == federation.rounds else set[str]()
    if silent:
        yield (
            ("interaction.method", *of_interaction),
            f"all rounds train the root (root_rounds = {federation.rounds})",
        )
    elif isinstance(clustering, Single):
        yield of_interaction, "there is a single cluster"
    elif isinstance(clustering, Grouping) and clustering.clusters == 1:
        yield of_interaction, "clusters = 1"
    for table in [table for table in FAMILIES if table not in silent]:
        settings: MethodSettings = getattr(federation, table)
        yield from ((tuple(f"{table}.{key}" for key in keys), cause) for keys, cause in settings.idle())


def _changed(federation: Federation, table: str) -> set[str]:
    """Return the keys of a table, as table.key, whose values are not those of a file without it."""
    settings: MethodSettings = getattr(federation, table)
    family: Family[object, MethodSettings] = FAMILIES[table]
    defaults = _defaults(type(settings)) | {"method": family.default}
    return {
        f"{table}.{key}"
        for key in settings.__struct_fields__
        if key not in defaults or getattr(settings, key) != defaults[key]
    }


def _defaults(kind: type[Keys] | type[MethodSettings]) -> dict[str, object]:
    fields = msgspec.structs.fields(kind)
    return {field.name: field.default for field in fields if field.default is not msgspec.NODEFAULT}
