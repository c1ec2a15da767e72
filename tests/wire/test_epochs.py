"""Epochs grow whatever clocks do, and every one of them can be said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import ConfigurationError, MessageInvalid
from edge_sdk.wire.epochs import clock_trouble, following, shown
from edge_sdk.wire.messages import MAX_EPOCH, Presence, decode, encode
from edge_sdk.wire.signing import Signer

IN_2026, IN_2039 = 1_780_000_000.0, 2_180_000_000.0


@given(st.integers(0, MAX_EPOCH - 1), st.floats(-1e12, 1e17))
def test_each_is_larger_than_the_last_and_can_be_said(last: int, now: float) -> None:
    epoch = following(last, now)
    assert epoch > last
    assert decode(encode(Presence(online=True, epoch=epoch))) == Presence(online=True, epoch=epoch)


def test_by_the_clock_or_counted_on() -> None:
    assert following(0, IN_2026) == IN_2026
    assert following(int(IN_2026), IN_2026) == IN_2026 + 1
    assert following(int(IN_2039), IN_2026) == IN_2039 + 1, "it was in the future once"
    assert following(0, IN_2039) == IN_2039 > 2**31
    assert following(0, -1.0) == 1
    assert following(0, 1e17) < MAX_EPOCH / 1000, "the wildest clock leaves room"
    with pytest.raises(ConfigurationError, match="new home"):
        following(MAX_EPOCH, IN_2026)


def test_beyond_the_last_one_nothing_is_understood() -> None:
    with pytest.raises(MessageInvalid):
        decode(encode(Presence(online=True, epoch=MAX_EPOCH + 1)))
    state = Signer(bytes(32), "tastes").state(online=True, epoch=MAX_EPOCH, base_id="b1", level="plain")
    assert decode(encode(state)) == state


def test_clocks_that_are_not_to_be_trusted() -> None:
    assert clock_trouble(0, IN_2026) is None
    assert clock_trouble(int(IN_2026) + 100, IN_2026) is None, "clocks differ a little"
    assert "13 years behind" in str(clock_trouble(int(IN_2039), IN_2026))
    assert "200 s behind" in str(clock_trouble(int(IN_2026) + 200, IN_2026))
    assert "never set" in str(clock_trouble(0, 60.0))


def test_all_of_them_can_be_shown() -> None:
    assert shown(IN_2026).startswith("2026-")
    assert shown(MAX_EPOCH)
