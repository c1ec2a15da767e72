"""A device's half of the rounds: join, train when asked, hand updates in, bring the adapters home. Needs no torch."""

from __future__ import annotations

from edge_sdk.membership.client import Membership, MembershipResult
from edge_sdk.membership.home import home_federation, keep_id, kept_id, trusted_key
from edge_sdk.membership.plan import RoundPlan, Train, TrainedUpdate

__all__ = [
    "Membership",
    "MembershipResult",
    "RoundPlan",
    "Train",
    "TrainedUpdate",
    "home_federation",
    "keep_id",
    "kept_id",
    "trusted_key",
]
