"""Takeover between coordinators, and repetition of a coordinator's own state, without any broker."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from coordinator.identity.keys import Keys
from coordinator.identity.leadership import Leadership
from edge_sdk.errors import CoordinatorUntrusted, SignatureInvalid
from edge_sdk.wire.messages import CoordinatorState, decode
from edge_sdk.wire.signing import Signer, new_key, recognised


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path, "tastes")


def state(signer: Signer, epoch: int, *, online: bool = True) -> CoordinatorState:
    return signer.state(online=online, epoch=epoch, base_id="b1", level="plain")


def read(payload: bytes) -> CoordinatorState:
    message = decode(payload)
    assert isinstance(message, CoordinatorState)
    return message


def made(keys: Keys) -> Leadership:
    """One that has heard its own word."""
    claim = Leadership(keys, "tastes", "b1", "plain", 7)
    assert claim.read(read(claim.online), 0.0) is None
    assert claim.due is None
    return claim


def test_what_it_says_is_signed(keys: Keys) -> None:
    claim = Leadership(keys, "tastes", "b1", "plain", 7)
    for payload, online in ((claim.online, True), (claim.offline, False)):
        said = read(payload)
        assert (said.online, said.epoch) == (online, 7)
        assert recognised(keys.signer.public, said, "tastes") == keys.signer.public


def test_later_lives_are_given_way_to_and_earlier_ones_are_not(keys: Keys) -> None:
    claim = made(keys)
    for online in (True, False):
        assert claim.read(state(keys.signer, 8, online=online), 1.0) == 8
    assert claim.due is None
    for epoch in (6, 7):
        claim = made(keys)
        assert claim.read(state(keys.signer, epoch, online=False), 1.0) is None
        assert claim.due == 1.0


def test_the_late_will_of_a_life_before_a_rotation_is_no_offence(keys: Keys) -> None:
    former = keys.signer
    keys.rotate()
    claim = made(keys)
    assert claim.read(state(former, 6, online=False), 1.0) is None
    with pytest.raises(CoordinatorUntrusted):
        claim.read(state(former, 8), 1.0)
    with pytest.raises(SignatureInvalid):
        claim.read(replace(state(former, 6), epoch=5), 1.0)


def test_what_lay_there_before_its_first_word_is_gone_with_that(keys: Keys) -> None:
    claim = Leadership(keys, "tastes", "b1", "plain", 7)
    assert claim.read(state(keys.signer, 6, online=False), 0.0) is None
    assert claim.due is None
    claim.overlooked(1.0)
    assert claim.due == 1.0


def test_two_federations_of_one_name_do_not_go_on_and_on(keys: Keys) -> None:
    claim, other = made(keys), Signer(new_key(), "tastes")
    restated = 0
    for tenth in range(600):  # of a second: the other one answers at once
        with pytest.raises(CoordinatorUntrusted):
            claim.read(state(other, 9), tenth / 10)
        claim.contested(tenth / 10)
        if claim.due is not None and claim.due <= tenth / 10:
            claim.restated(tenth / 10)
            restated += 1
    assert restated == 6
