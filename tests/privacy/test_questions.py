"""A device's half of a clustering by sums: its answers, number by number, and the questions that it refuses."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import AttemptMismatch, MessageInvalid, PromptError
from edge_sdk.privacy import (
    DIMENSIONS,
    FARTHEST,
    MOST_CENTROIDS,
    MOST_IN_TRIAL,
    MOST_QUESTIONS,
    SILHOUETTE,
    STEPS,
    SUBSTEPS,
    UPPER,
    Integers,
    Question,
    answer,
    check_follows,
    check_question,
    nearest_centroid,
    read_question,
)


def centroids(*first: int) -> bytes:
    """Centroids that differ in their first number only, given in whole steps."""
    rows = np.zeros((len(first), DIMENSIONS), "<i2")
    rows[:, 0] = np.array(first) * SUBSTEPS
    return rows.tobytes()


def code(first: int) -> bytes:
    return np.array([first, *[0] * (DIMENSIONS - 1)], np.int8).tobytes()


def question(kind: str = "counts", **changes: Any) -> Question:
    """Two trials, of two and of three centroids."""
    given: dict[str, Any] = {"epoch": 3, "clustering": 5, "number": 2, "kind": kind}
    if kind != "spread":
        given |= {"sizes": (2, 3), "centroids": centroids(-4, 4, -6, 0, 6), "slots": bytes([0, 1, 0, 1, 2])}
    return Question(**{**given, **changes})


SPREAD = question("spread", number=1)


def test_counts() -> None:
    """1 in the slot of the nearest centroid of each trial, and 1 - near / far in 1,024 parts."""
    found = answer(question(), code(3))
    assert found.dtype == np.uint32
    assert found.tolist() == [0, 1, 0, 1, 0, SILHOUETTE - SILHOUETTE // 7, 0]
    assert answer(question(), code(-6)).tolist() == [1, 0, 1, 0, 0, SILHOUETTE - SILHOUETTE * 2 // 10, SILHOUETTE]


def test_places() -> None:
    """The code in the slot that it chose: two centroids of the second trial share one."""
    asked = question("places", number=3, slots=bytes([0, 1, 0, 1, 0]))
    found = answer(asked, code(-5)).view(np.int32).reshape(4, 1 + DIMENSIONS)
    assert found[:, :2].tolist() == [[1, -5], [0, 0], [1, -5], [0, 0]]
    assert answer(asked, code(7)).view(np.int32).reshape(4, -1)[:, :2].tolist() == [[0, 0], [1, 7], [1, 7], [0, 0]]
    assert not found[:, 2:].any()


def test_a_spread() -> None:
    own = np.arange(-7, 9).astype(np.int8)
    found = answer(SPREAD, own.tobytes()).view(np.int32)
    assert found[: 1 + DIMENSIONS].tolist() == [1, *own.tolist()]
    assert found[1 + DIMENSIONS :].tolist() == [int(own[i]) * int(own[j]) for i, j in zip(*UPPER, strict=True)]
    assert len(found) == SPREAD.words == 153


def test_a_single_centroid_or_equal_ones_are_not_clear() -> None:
    one = question(sizes=(1,), centroids=centroids(2), slots=bytes(1))
    assert answer(one, code(2)).tolist() == [1, 0]
    equal = question(sizes=(2,), centroids=centroids(2, 2), slots=bytes([0, 1]))
    assert answer(equal, code(2)).tolist() == [1, 0, 0]
    assert answer(equal, code(5)).tolist() == [1, 0, 0]


@settings(max_examples=100)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 2**32))
def test_an_answer_is_of_the_code_alone(sizes: list[int], seed: int) -> None:
    """Against the definition, trial by trial, for any centroids inside the radius."""
    rng = np.random.default_rng(seed)
    places = rng.integers(-FARTHEST, FARTHEST + 1, (sum(sizes), DIMENSIONS))
    own = rng.integers(-STEPS, STEPS + 1, DIMENSIONS).astype(np.int8)
    asked = question(
        sizes=tuple(sizes), centroids=places.astype("<i2").tobytes(), slots=b"".join(bytes(range(k)) for k in sizes)
    )
    check_question(asked)
    found = answer(asked, own.tobytes()).view(np.int32)
    assert len(found) == asked.words
    first = 0
    for number, size in enumerate(sizes):
        distances = np.sqrt(((SUBSTEPS * own.astype(float) - places[first : first + size]) ** 2).sum(axis=1))
        chosen = int(distances.argmin())
        assert found[first : first + size].tolist() == [int(k == chosen) for k in range(size)]
        assert nearest_centroid(own.tobytes(), places[first : first + size]) == chosen
        if size > 1:
            clear = 1 - distances[chosen] / np.delete(distances, chosen).min()
            assert 0 <= found[sum(sizes) + number] - SILHOUETTE * clear < 1 + 1e-6
        first += size


@pytest.mark.parametrize("wrong", [b"", bytes(15), bytes(17), bytes([9, *[0] * 15]), bytes([0x80, *[0] * 15])])
def test_codes_of_other_levels_are_refused(wrong: bytes) -> None:
    for asked in (SPREAD, question()):
        with pytest.raises(PromptError, match="Make the device's code again"):
            answer(asked, wrong)
    with pytest.raises(PromptError):
        nearest_centroid(wrong, np.zeros((2, DIMENSIONS), np.int64))


@pytest.mark.parametrize(
    "changes",
    [
        {"number": 0},
        {"number": MOST_QUESTIONS + 1},
        {"sizes": (2, 2)},
        {"sizes": (5, 0)},
        {"sizes": ()},
        {"sizes": (MOST_IN_TRIAL + 1,), "centroids": bytes(32 * 65), "slots": bytes(range(65))},
        {"sizes": (1,) * (MOST_CENTROIDS + 1), "centroids": bytes(32 * 2049), "slots": bytes(2049)},
        {"centroids": centroids(-4, 4, -6, 0)},
        {"centroids": centroids(-4, 4, -6, 0, 6)[:-1]},
        {"centroids": centroids(-4, 4, -6, 0, STEPS + 1)},
        {"slots": bytes([0, 1, 0, 1])},
        {"slots": bytes([0, 1, 0, 2, 1])},
        {"slots": bytes([1, 0, 0, 1, 2])},
        {"slots": bytes([0, 1, 0, 1, 1])},
        {"kind": "places", "slots": bytes([0, 1, 1, 0, 2])},
        {"kind": "places", "sizes": (), "centroids": b"", "slots": b""},
        {"kind": "spread", "sizes": (1,), "centroids": centroids(1), "slots": bytes(1)},
    ],
)
def test_questions_that_cannot_be(changes: dict[str, Any]) -> None:
    wrong = question(**{"kind": "counts", **changes})
    with pytest.raises(MessageInvalid):
        check_question(wrong)
    with pytest.raises(MessageInvalid):
        read_question(msgspec.msgpack.encode(wrong))


@settings(max_examples=200)
@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 255))
def test_garbage_is_refused_by_name(garbage: bytes, place: int, value: int) -> None:
    """Bytes at random, and a question with one byte changed."""
    whole = bytearray(msgspec.msgpack.encode(question()))
    whole[place % len(whole)] = value
    for data in (garbage, bytes(whole), bytes(whole[: place % len(whole)])):
        try:
            read = read_question(data)
        except MessageInvalid:
            continue
        assert len(answer(read, code(1))) == read.words


def follows(after: Question, before: Question | None) -> None:
    check_question(after)
    check_follows(after, before)


def test_questions_in_their_order() -> None:
    """One may come twice or be missed; another clustering, or another start of the coordinator, begins anew."""
    places = question("places", number=3, slots=bytes([0, 1, 0, 1, 1]))
    again = question(number=4, sizes=(2, 2), centroids=centroids(-5, 5, -5, 5), slots=bytes([0, 1, 0, 1]))
    before = None
    for after in (SPREAD, SPREAD, question(), question(), places, places, again):
        follows(after, before)
        before = after
    follows(again, question())
    follows(question(number=3), SPREAD)
    follows(question("spread", number=1, clustering=6), again)
    follows(question("spread", number=1, epoch=4, clustering=1), again)


@pytest.mark.parametrize(
    ("after", "before"),
    [
        (question(), None),
        (question("places", number=1), None),
        (question("places", number=4, slots=bytes([0, 1, 0, 1, 1])), question()),
        (question("places", number=2), SPREAD),
        (question("spread", number=3), question()),
        (SPREAD, question()),
        (question("places", number=3, centroids=centroids(-4, 4, -6, 0, 7)), question()),
        (question("places", number=3, sizes=(3, 2), slots=bytes([0, 1, 2, 0, 1])), question()),
        (question(centroids=centroids(-4, 4, -6, 0, 7)), question()),
        (question("places", number=4), question("places", number=3)),
        (question("spread", number=1, clustering=4), question()),
        (question("spread", number=1, epoch=2, clustering=9), question()),
        (question(number=3, clustering=6), question()),
    ],
)
def test_questions_out_of_their_turn_are_refused(after: Question, before: Question | None) -> None:
    with pytest.raises(AttemptMismatch):
        follows(after, before)


def test_a_newcomer_takes_the_first_of_equally_near_centroids() -> None:
    rows: Integers = np.frombuffer(centroids(-4, 4, 4), "<i2").astype(np.int64).reshape(3, -1)
    assert [nearest_centroid(code(first), rows) for first in (-1, 0, 1)] == [0, 0, 1]
