"""The company of a sum of level "local": no difference of two sums is of fewer devices than the smallest cluster."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import AttemptMismatch, RosterInvalid
from edge_sdk.privacy import (
    LEVELS,
    MOST_CLUSTERINGS,
    Answered,
    Question,
    check_company,
    counts_question,
    hides,
    places_of,
)
from edge_sdk.wire import CENTROID_BYTES, DeviceProfile

ALL = frozenset("abcdefgh")


def spread(clustering: int, epoch: int = 1) -> Question:
    return Question(epoch=epoch, clustering=clustering, number=1, kind="spread")


@pytest.mark.parametrize(
    ("devices", "hidden"),
    [
        (ALL, True),
        (ALL - {"a"}, False),
        (ALL - {"a", "b"}, False),
        (ALL - {"a", "b", "c"}, True),
        (ALL | {"x"}, False),
        (ALL | {"x", "y", "z"}, True),
        (ALL - {"a"} | {"x"}, False),
        (ALL - {"a", "b", "c"} | {"x"}, False),
        (ALL - {"a", "b", "c"} | {"x", "y", "z"}, True),
    ],
)
def test_as_many_as_the_smallest_cluster_come_and_go_or_none(devices: frozenset[str], hidden: bool) -> None:
    assert hides(devices, ALL, 3) == hidden
    assert hides(devices, frozenset(), 3), "there is nothing to compare with"
    if hidden:
        check_company(devices, ALL, 3)
    else:
        with pytest.raises(RosterInvalid, match="show their codes"):
            check_company(devices, ALL, 3)


@given(st.frozensets(st.sampled_from(sorted(ALL))), st.frozensets(st.sampled_from(sorted(ALL)), min_size=1))
def test_it_is_the_same_from_both_sides(one: frozenset[str], other: frozenset[str]) -> None:
    if one:
        assert hides(one, other, 3) == hides(other, one, 3)


def test_a_device_takes_part_in_a_few_clusterings() -> None:
    last = Answered()
    for clustering in range(1, MOST_CLUSTERINGS + 1):
        question = spread(clustering)
        last.check(question)
        last = last.and_now(question, ALL).and_now(question, ALL)
    assert (last.clusterings, last.devices) == (MOST_CLUSTERINGS, ALL)
    last.check(spread(MOST_CLUSTERINGS))
    for question in (spread(MOST_CLUSTERINGS + 1), spread(1, epoch=2)):
        with pytest.raises(AttemptMismatch, match="chooses among the published centroids"):
            last.check(question)


def test_a_question_that_does_not_follow_is_refused() -> None:
    with pytest.raises(AttemptMismatch):
        Answered().check(counts_question(bytes(64)))
    with pytest.raises(AttemptMismatch, match="out of date"):
        Answered().and_now(spread(2), ALL).check(spread(1))


def test_published_centroids() -> None:
    places = np.arange(-16, 16).reshape(2, 16)
    encoded = places.astype("<i2").tobytes()
    assert len(encoded) == 2 * CENTROID_BYTES
    assert places_of(encoded).tolist() == places.tolist()
    question = counts_question(encoded)
    assert (question.words, question.trials[0][1].tolist()) == (3, [0, 1])


def test_the_level_keeps_codes_at_home() -> None:
    level = LEVELS["local"]
    assert not level.leaves
    assert (level.size(768), level.picture_size(512)) == (0, 0)
    profile = DeviceProfile(base_id="b", prompt_code=b"", level="local", pictures=1, max_rank=1)
    assert profile.prompt_code == b""
