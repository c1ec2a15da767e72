"""Ids of plans: an update in the journal of an earlier version is found again."""

from __future__ import annotations

from msgspec.structs import replace

from edge_sdk.wire import RoundStart, make_manifest, plan_id

ROOT = make_manifest(b"adapter", role="root", name="root")
START = RoundStart(
    round=2, attempt=3, rounds=3, stage="cluster", cluster=1, frozen=[ROOT], start=ROOT, rank=4, seed=7, steps=5,
    batch_size=2, learning_rate=1e-3, deadline=5.0, late=1,
)  # fmt: skip
# Computed before rounds had a key "layers".
EARLIER = "20aa99e12821e256936c3d9d0c1f3a0fd19b377859e39194e7201bc80544bf1b"


def test_work_of_an_earlier_version_has_the_same_id() -> None:
    assert plan_id("stickers", START) == EARLIER


def test_other_work_has_another_id() -> None:
    others = [replace(START, layers="all"), replace(START, seed=8), replace(START, start=None)]
    assert len({plan_id("stickers", start) for start in (START, *others)}) == 4
    assert plan_id("paintings", START) != EARLIER
    assert plan_id("stickers", replace(START, attempt=4, deadline=9.0)) == EARLIER
