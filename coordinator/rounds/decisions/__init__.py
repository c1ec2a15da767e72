"""Decisions about a state: pure functions of the rules, the state and the time, which change nothing."""

from __future__ import annotations

from coordinator.rounds.decisions.alone import asked, may_be_summed
from coordinator.rounds.decisions.awaited import Awaited, awaited
from coordinator.rounds.decisions.eviction import is_at_work, replaceable
from coordinator.rounds.decisions.hellos import has_all, owes_update
from coordinator.rounds.decisions.lost_blobs import (
    ADAPTERS_LOST,
    UPDATE_LOST,
    lost_lineages,
    lost_updates,
    round_is_lost,
    without_blobs,
)
from coordinator.rounds.decisions.offers import counted_before, may_count_later, member_for, problem_with, wants
from coordinator.rounds.decisions.opening import is_as_opened, next_question, next_round, round_start, too_small
from coordinator.rounds.decisions.outliers import OUTLIER, UPDATE_OUTLIER, outliers
from coordinator.rounds.decisions.profiles import problem_with_profile
from coordinator.rounds.decisions.sessions import born, is_death, is_doubled
from coordinator.rounds.decisions.sums import (
    LARGEST_SUM,
    NOT_IN_SUM,
    SumProgress,
    cluster_of,
    fewest_in_sum,
    sums_of,
    takes_part,
)
from coordinator.rounds.decisions.waiting import (
    LEAVING,
    all_served,
    awaited_members,
    enough_to_begin,
    has_members,
    has_quorum,
    is_vain,
    is_waiting,
    next_wake,
    present,
    sets_pace,
)

__all__ = [
    "ADAPTERS_LOST",
    "LARGEST_SUM",
    "LEAVING",
    "NOT_IN_SUM",
    "OUTLIER",
    "UPDATE_LOST",
    "UPDATE_OUTLIER",
    "Awaited",
    "SumProgress",
    "all_served",
    "asked",
    "awaited",
    "awaited_members",
    "born",
    "cluster_of",
    "counted_before",
    "enough_to_begin",
    "fewest_in_sum",
    "has_all",
    "has_members",
    "has_quorum",
    "is_as_opened",
    "is_at_work",
    "is_death",
    "is_doubled",
    "is_vain",
    "is_waiting",
    "lost_lineages",
    "lost_updates",
    "may_be_summed",
    "may_count_later",
    "member_for",
    "next_question",
    "next_round",
    "next_wake",
    "outliers",
    "owes_update",
    "present",
    "problem_with",
    "problem_with_profile",
    "replaceable",
    "round_is_lost",
    "round_start",
    "sets_pace",
    "sums_of",
    "takes_part",
    "too_small",
    "wants",
    "without_blobs",
]
