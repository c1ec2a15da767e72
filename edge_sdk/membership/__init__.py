"""The device's half of the rounds: join, train when asked, send updates, bring the adapters home. Needs no torch."""

from __future__ import annotations

from edge_sdk.membership.farewell import Farewell, forget
from edge_sdk.membership.home import Identity, home_federation, identity, keep_id, kept_id, spent_budget, trusted_key
from edge_sdk.membership.journal import no_home
from edge_sdk.membership.membership import Membership, OnEvent
from edge_sdk.membership.observer import Observer
from edge_sdk.membership.plan import RoundPlan, Train, TrainedUpdate
from edge_sdk.membership.runner import MembershipResult
from edge_sdk.membership.work import make_plan, pack_update, to_keep

__all__ = [
    "Farewell",
    "Identity",
    "Membership",
    "MembershipResult",
    "Observer",
    "OnEvent",
    "RoundPlan",
    "Train",
    "TrainedUpdate",
    "forget",
    "home_federation",
    "identity",
    "keep_id",
    "kept_id",
    "make_plan",
    "no_home",
    "pack_update",
    "spent_budget",
    "to_keep",
    "trusted_key",
]
