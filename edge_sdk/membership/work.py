"""A device's part of a round without any network: RoundStart -> plan, training's result -> update, adapters -> home.

`Membership` does this over MQTT, the coordinator's simulation in one process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from edge_sdk.adapter import Adapter, Factors, Share, beginning, concatenate, fit, pack, remainder, to_bytes
from edge_sdk.membership.plan import RoundPlan, TrainedUpdate
from edge_sdk.wire import Manifest, RoundStart

# Ending of the name of an adapter that a method has folded into the base; it comes beside the adapter of that name.
FOLDED = ".folded"


def make_plan(start: RoundStart, adapters: Mapping[str, Adapter], own: Adapter | None = None) -> RoundPlan:
    """The plan of the training that a RoundStart asks for.

    Args:
        adapters: hash -> adapter for all that `start` names.
        own: the whole adapter of this device's last update, if a factor of it stayed at home.
    """
    whole = adapters[start.start.sha256] if start.start else None
    begin = fit(whole, start.rank, start.share) if whole else None
    rest = remainder(whole, start.rank, start.share) if whole and start.keep_rest else None
    if begin and own and start.share is Share.A_ONLY:
        begin = with_own_factor(begin, own)
    return RoundPlan(
        round=start.round,
        rounds=start.rounds,
        stage=start.stage,
        cluster=start.cluster,
        frozen=(*(adapters[manifest.sha256] for manifest in start.frozen), *([rest] if rest else [])),
        start=begin,
        share=start.share,
        layers=start.layers,
        rank=start.rank,
        seed=start.seed,
        steps=start.steps,
        batch_size=start.batch_size,
        learning_rate=start.learning_rate,
        deadline=start.deadline,
    )


def pack_update(plan: RoundPlan, trained: TrainedUpdate, base_id: str, *, masked: bool = False) -> bytes:
    """The file that the device sends: the part of the trained adapter that the plan's `share` names.

    Args:
        plan: the plan.
        trained: the result of its training.
        base_id: id of the base model.
        masked: True if the file stays on the device, which makes the vector of a masked sum of it: then it is whole.

    Raises:
        AdapterValueError: NaN, infinite or huge numbers.
    """
    whole = Adapter(trained.adapter.layers, base_id)
    if masked:
        return to_bytes(whole)
    shapes = {name: factors.shape for name, factors in whole.layers.items()}
    return pack(whole, beginning(plan.start, shapes, plan.rank, plan.seed, plan.share), plan.share)


def to_keep(
    adapters: Sequence[tuple[Manifest, Adapter]], cluster: int | None, own: Adapter | None = None
) -> list[tuple[Manifest, Adapter]]:
    """The adapters to draw with: parts of one adapter added up, and the own cluster's with the factor kept at home."""
    parts: dict[str, tuple[Manifest, list[Adapter]]] = {}
    for manifest, adapter in adapters:
        name = manifest.name.removesuffix(FOLDED)
        parts.setdefault(name, (replace(manifest, name=name), []))[1].append(adapter)
    kept = []
    for name, (manifest, pieces) in parts.items():
        whole = pieces[0] if len(pieces) == 1 else concatenate([(piece, 1.0) for piece in pieces])
        kept.append((manifest, with_own_factor(whole, own) if own and name == f"cluster-{cluster}" else whole))
    return kept


def with_own_factor(shared: Adapter, own: Adapter) -> Adapter:
    """The adapter with A from `shared`, and B from `own` in the layers where it fits, else from `shared`."""
    layers = {
        name: Factors(f.a, own.layers[name].b, f.kernel)
        if name in own.layers and own.layers[name].b.shape == f.b.shape
        else f
        for name, f in shared.layers.items()
    }
    return Adapter(layers, shared.base_id, shared.notes)
