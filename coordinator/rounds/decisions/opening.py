"""Opening of a round: its members, their starts, and the RoundStart for each device."""

from __future__ import annotations

from msgspec.structs import replace

from coordinator import secure_aggregation
from coordinator.rounds.decisions import alone
from coordinator.rounds.decisions.sums import allows, divided
from coordinator.rounds.decisions.waiting import probation, promised_until
from coordinator.rounds.state import Counted, Member, Round, Rules, State
from edge_sdk.adapter import Share
from edge_sdk.privacy import counts_question, read_question
from edge_sdk.secure_aggregation import is_count, slots_of, terms_of
from edge_sdk.wire import ClusterStart, Manifest, Masking, RoundStart, Stage


def next_round(rules: Rules, state: State, now: float) -> Round | None:
    """Return the next round, with all present devices that have a cluster; None if there are none."""
    number = state.round + 1
    stage = stage_of(rules, number)
    choose = rules.alone and stage == "cluster"
    cohort = {}
    if choose:
        starts = alone.starts(state)
        start = starts[0] if starts and all(starts) else None
        role = Member(None, rules.rank, None, _seed(rules, state, number), share_of(rules, number, start), 0)
        cohort = dict.fromkeys(alone.members(rules, state, now), role)
    else:
        for name, device in sorted(state.devices.items()):
            if not device.is_present(now) or (device.cluster is None and not rules.alone):
                continue
            cluster = device.cluster if stage == "cluster" else None
            start, rank = state.lineage(cluster).start, min(rules.rank, device.max_rank)
            cohort[name] = Member(cluster, rank, start, _seed(rules, state, number), share_of(rules, number, start))
        if rules.masking is not None:
            cohort = _with_sums(cohort, rules.masking)
    if not cohort:
        return None
    known = alone.counted(state, now) if choose else None
    if choose and len(state.clusters) == 1:  # there is nothing to be counted
        known = Counted(number, frozenset(cohort), (len(cohort),), bytes(1))
    # Counted devices are trained.
    wait = rules.patience if known is not None and known.has_slots else rules.deadline
    opened = Round(
        number=number,
        attempt=state.attempt + 1,
        stage=stage,
        opened=now,
        deadline=now + wait,
        probation=now + min(wait, probation(rules, state, cohort)),
        cohort=cohort,
        masking=rules.masking and replace(rules.masking, epoch=rules.epoch),
        centroids=state.alone.centroids if choose else b"",
        counted=known,
    )
    if opened.masking is None:
        return opened
    return replace(opened, sums=_sums(rules, state, opened))


def next_question(rules: Rules, state: State, now: float) -> Round | None:
    """Return the sum that answers the present question of the clustering; None if too few devices may be asked."""
    asking, names = state.alone.asking, alone.asked(rules, state, now)
    assert asking is not None, "there is a question"
    assert rules.masking is not None, "it is answered under masks"
    if names is None:
        return None
    opened = Round(
        number=0,
        attempt=state.attempt + 1,
        stage="clustering",
        opened=now,
        deadline=now + rules.patience,
        probation=now + rules.patience,
        cohort=dict.fromkeys(sorted(names), Member(None, rules.rank, None, rules.seed, Share.BOTH, 0)),
        masking=replace(rules.masking, epoch=rules.epoch),
        question=asking.question,
    )
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
    if rules.masking is None or rules.alone:
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
        found[number] = secure_aggregation.begin(terms_of(rules.name, start, _words(rules, start)), names)
    return found


def round_start(rules: Rules, state: State, name: str, now: float) -> RoundStart | ClusterStart:
    """Return the RoundStart for a member of the open round; for a question the ClusterStart."""
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


def _words(rules: Rules, start: RoundStart | ClusterStart) -> int:
    """Return the length of the vectors of a masked sum."""
    if isinstance(start, ClusterStart):
        return read_question(start.question).words
    if is_count(start):
        return counts_question(start.centroids).words
    return rules.words[start.share] + (slots_of(start) - 1) * rules.slot_words.get(start.share, 0)


def _start_of(rules: Rules, state: State, current: Round, name: str, deadline: float) -> RoundStart | ClusterStart:
    member = current.cohort[name]
    if current.question:
        assert current.masking is not None, "it is answered under masks"
        return ClusterStart(
            attempt=current.attempt,
            question=current.question,
            smallest=rules.smallest,
            masking=current.masking,
            deadline=deadline,
            noise=rules.noise,
        )
    frozen: list[Manifest | None]
    if current.centroids:
        frozen = [*state.root.adapters]
    elif member.cluster is None:
        frozen = [state.root.folded]
    else:
        frozen = [*state.root.adapters, state.clusters[member.cluster].folded]
    assert current.stage != "clustering", "it asks no question"
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
        centroids=current.centroids,
        starts=alone.starts(state) if current.centroids else [],
        slots=current.counted.slots if current.counted else b"",
        losses=current.counted.losses if current.counted else None,
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
