"""Opening of a round: its members, their starts, and the RoundStart for each device."""

from __future__ import annotations

from coordinator.rounds.decisions.waiting import probation, promised_until
from coordinator.rounds.state import Member, Round, Rules, State
from edge_sdk.adapter import Share
from edge_sdk.wire import Manifest, RoundStart, Stage


def next_round(rules: Rules, state: State, now: float) -> Round | None:
    """Return the next round, with all present devices that have a cluster; None if there are none."""
    number = state.round + 1
    stage = stage_of(rules, number)
    cohort = {}
    for name, device in sorted(state.devices.items()):
        if not device.is_present(now) or device.cluster is None:
            continue
        cluster = device.cluster if stage == "cluster" else None
        start, rank = state.lineage(cluster).start, min(rules.rank, device.max_rank)
        cohort[name] = Member(cluster, rank, start, _seed(rules, state, number), share_of(rules, number, start))
    if not cohort:
        return None
    return Round(
        number=number,
        attempt=state.attempt + 1,
        stage=stage,
        opened=now,
        deadline=now + rules.deadline,
        probation=now + probation(rules, state, cohort),
        cohort=cohort,
    )


def round_start(rules: Rules, state: State, name: str, now: float) -> RoundStart:
    """Return the RoundStart for a member of the open round."""
    current = state.current
    assert current is not None, "a round is open"
    member = current.cohort[name]
    if member.cluster is None:
        frozen = [state.root.folded]
    else:
        frozen = [*state.root.adapters, state.clusters[member.cluster].folded]
    return RoundStart(
        round=current.number,
        attempt=current.attempt,
        rounds=rules.rounds,
        stage=current.stage,
        cluster=member.cluster,
        frozen=[manifest for manifest in frozen if manifest],
        start=member.start,
        keep_rest=rules.keep_rest,
        share=member.share,
        layers=rules.layers,
        rank=member.rank,
        seed=member.seed,
        steps=rules.steps,
        batch_size=rules.batch_size,
        learning_rate=rules.learning_rate,
        deadline=max(0.0, promised_until(state, name, now) - now),
        late=rules.late,
    )


def stage_of(rules: Rules, number: int) -> Stage:
    """Return the stage of a round: "root" for the first `root_rounds`, then "cluster"."""
    return "root" if number <= rules.root_rounds else "cluster"


def share_of(rules: Rules, number: int, start: Manifest | None) -> Share:
    """Return the factors that are trained in round `number` by devices that start from `start`."""
    turn = number - 1 if number <= rules.root_rounds else number - rules.root_rounds - 1
    return rules.shares[min(turn, len(rules.shares) - 1)] if start else rules.shares[0]


def _seed(rules: Rules, state: State, number: int) -> int:
    """Return the seed of a round's initialisation.

    It is one for all clusters, so that their factors can be compared, and another one for root rounds. If the method
    folds, so that devices start afresh, every round has its own.
    """
    in_root = number <= rules.root_rounds
    lineages = [state.root] if in_root else state.clusters.values()
    folds = any(lineage.folded for lineage in lineages)
    return rules.seed + (not in_root) + (2 * number if folds else 0)
