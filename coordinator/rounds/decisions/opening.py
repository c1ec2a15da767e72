"""Opening of a round: its members, their starts, and the RoundStart for each device."""

from __future__ import annotations

from msgspec.structs import replace

from coordinator import secure_aggregation
from coordinator.rounds.decisions.sums import allows, divided
from coordinator.rounds.decisions.waiting import probation, promised_until
from coordinator.rounds.state import Member, Round, Rules, State
from edge_sdk.adapter import Share
from edge_sdk.secure_aggregation import terms_of
from edge_sdk.wire import Manifest, Masking, RoundStart, Stage


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
    if rules.masking is not None:
        cohort = _with_sums(cohort, rules.masking)
    if not cohort:
        return None
    opened = Round(
        number=number,
        attempt=state.attempt + 1,
        stage=stage,
        opened=now,
        deadline=now + rules.deadline,
        probation=now + probation(rules, state, cohort),
        cohort=cohort,
        masking=rules.masking and replace(rules.masking, epoch=rules.epoch),
    )
    if opened.masking is None:
        return opened
    return replace(opened, sums=_sums(rules, state, opened))


def is_as_opened(rules: Rules, state: State) -> bool:
    """Return True if the open round asks for the work that its masked sums were begun for.

    The federation file may have been changed between two starts: then devices would sign for another step.
    """
    assert state.current is not None, "a round is open"
    return {number: masked.terms for number, masked in state.current.sums.items()} == {
        number: masked.terms for number, masked in _sums(rules, state, state.current).items()
    }


def too_small(rules: Rules, state: State, opened: Round | None, now: float) -> dict[int, int]:
    """Return the clusters whose present devices are too few for a masked sum, each with their number.

    Args:
        rules: the rules.
        state: the state before the round.
        opened: the round; None if no cluster is large enough.
        now: the time.
    """
    if rules.masking is None:
        return {}
    there = [d.cluster for d in state.devices.values() if d.is_present(now) and d.cluster is not None]
    trained = {member.cluster for member in opened.cohort.values()} if opened else set()
    root = stage_of(rules, state.round + 1) == "root"
    return {} if root and opened else {c: there.count(c) for c in sorted(set(there)) if c not in trained}


def _with_sums(cohort: dict[str, Member], masking: Masking) -> dict[str, Member]:
    """Return the members that can be summed, each with the number of its sum."""
    clusters: dict[int | None, list[str]] = {}
    for name, member in cohort.items():
        clusters.setdefault(member.cluster, []).append(name)
    able = (names for members in clusters.values() for names in divided(members) if allows(masking, len(names)))
    return {name: replace(cohort[name], sum=number) for number, names in enumerate(able) for name in names}


def _sums(rules: Rules, state: State, opened: Round) -> dict[int, secure_aggregation.State]:
    groups: dict[int, list[str]] = {}
    for name, member in opened.cohort.items():
        assert member.sum is not None, "all of its members are summed"
        groups.setdefault(member.sum, []).append(name)
    found = {}
    for number, names in sorted(groups.items()):
        start = _start_of(rules, state, opened, names[0], 0.0)
        found[number] = secure_aggregation.begin(terms_of(rules.name, start, rules.words[start.share]), names)
    return found


def round_start(rules: Rules, state: State, name: str, now: float) -> RoundStart:
    """Return the RoundStart for a member of the open round."""
    current = state.current
    assert current is not None, "a round is open"
    return _start_of(rules, state, current, name, max(0.0, promised_until(state, name, now) - now))


def stage_of(rules: Rules, number: int) -> Stage:
    """Return the stage of a round: "root" for the first `root_rounds`, then "cluster"."""
    return "root" if number <= rules.root_rounds else "cluster"


def share_of(rules: Rules, number: int, start: Manifest | None) -> Share:
    """Return the factors that are trained in round `number` by devices that start from `start`."""
    turn = number - 1 if number <= rules.root_rounds else number - rules.root_rounds - 1
    return rules.shares[min(turn, len(rules.shares) - 1)] if start else rules.shares[0]


def _start_of(rules: Rules, state: State, current: Round, name: str, deadline: float) -> RoundStart:
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
        deadline=deadline,
        late=rules.late,
        masking=current.masking,
    )


def _seed(rules: Rules, state: State, number: int) -> int:
    """Return the seed of a round's initialisation.

    It is one for all clusters, so that their factors can be compared, and another one for root rounds. If the method
    folds, so that devices start afresh, every round has its own.
    """
    in_root = number <= rules.root_rounds
    lineages = [state.root] if in_root else state.clusters.values()
    folds = any(lineage.folded for lineage in lineages)
    return rules.seed + (not in_root) + (2 * number if folds else 0)
