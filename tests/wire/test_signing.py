"""Signatures of manifests, and keys that vouch for their successors."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edge_sdk.errors import ConfigurationError, CoordinatorUntrusted, SignatureInvalid
from edge_sdk.wire.messages import Finished, Manifest, Step, decode, encode
from edge_sdk.wire.signing import Signer, fingerprint, new_key, read_fingerprint, trusted, verified
from edge_sdk.wire.transfer import make_manifest
from tests.membership.test_membership import start

SIGNER, OTHER = Signer(bytes(range(32)), "tastes"), Signer(new_key(), "tastes")
ROOT, CLUSTER = (make_manifest(content, "root", name) for content, name in ((b"1", "root"), (b"2", "cluster-0")))
STEPS: list[Step] = [
    start(1),
    start(2, frozen=[ROOT, CLUSTER], start=CLUSTER),
    Finished(rounds=3, cluster=0, adapters=[ROOT, CLUSTER]),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_signed_steps_come_through_and_are_the_same_afterwards(step: Step) -> None:
    received = decode(encode(SIGNER.signed(step)))
    assert isinstance(received, type(step))
    assert verified(received, SIGNER.public, "tastes") == step
    assert SIGNER.signed(step) == SIGNER.signed(step)


@pytest.mark.parametrize("step", STEPS[1:], ids=lambda step: type(step).__name__)
def test_what_somebody_else_has_made_is_refused(step: Step) -> None:
    for forged, federation in (
        (step, "tastes"),  # not signed
        (OTHER.signed(step), "tastes"),  # by another key
        (SIGNER.signed(step), "paintings"),  # for another federation
        (Signer(bytes(range(32)), "paintings").signed(step), "tastes"),
    ):
        with pytest.raises(SignatureInvalid, match="not signed by the coordinator"):
            verified(forged, SIGNER.public, federation)


@pytest.mark.parametrize("change", [{"role": "cluster"}, {"name": "x"}, {"sha256": "0" * 64}, {"size": 2}])
def test_a_signature_holds_for_all_that_matters(change: dict[str, object]) -> None:
    (signed,) = SIGNER.signed(Finished(rounds=1, cluster=0, adapters=[ROOT])).adapters  # type: ignore[union-attr]
    moved: Manifest = replace(signed, **change)
    with pytest.raises(SignatureInvalid):
        verified(Finished(rounds=1, cluster=0, adapters=[moved]), SIGNER.public, "tastes")


def test_one_bad_manifest_spoils_a_step() -> None:
    good = SIGNER.signed(STEPS[1])
    with pytest.raises(SignatureInvalid):
        verified(replace(good, frozen=[*good.frozen, ROOT]), SIGNER.public, "tastes")  # type: ignore[union-attr]


class TestTrust:
    def test_the_first_one_is_trusted_and_then_no_other(self) -> None:
        assert trusted(None, SIGNER.public, [], "tastes") == SIGNER.public
        assert trusted(SIGNER.public, SIGNER.public, [], "tastes") == SIGNER.public
        with pytest.raises(CoordinatorUntrusted, match="trusts"):
            trusted(SIGNER.public, OTHER.public, [], "tastes")

    def test_keys_vouch_for_their_successors(self) -> None:
        third = Signer(new_key(), "tastes")
        said = [SIGNER.succession(OTHER.public), OTHER.succession(third.public)]
        assert trusted(SIGNER.public, OTHER.public, said, "tastes") == OTHER.public
        assert trusted(SIGNER.public, third.public, said, "tastes") == third.public
        assert trusted(OTHER.public, third.public, said, "tastes") == third.public

    def test_nobody_vouches_for_himself_or_backwards(self) -> None:
        for said in (
            [OTHER.succession(SIGNER.public)],
            [replace(OTHER.succession(OTHER.public), old=SIGNER.public)],
            [replace(SIGNER.succession(new_key()), new=OTHER.public)],
            [Signer(bytes(range(32)), "paintings").succession(OTHER.public)],
        ):
            with pytest.raises(CoordinatorUntrusted):
                trusted(SIGNER.public, OTHER.public, said, "tastes")

    def test_a_ring_of_keys_ends(self) -> None:
        third = Signer(new_key(), "tastes")
        ring = [SIGNER.succession(OTHER.public), OTHER.succession(SIGNER.public)]
        with pytest.raises(CoordinatorUntrusted):
            trusted(SIGNER.public, third.public, ring, "tastes")


def test_fingerprints_are_read_as_they_are_shown() -> None:
    shown = fingerprint(SIGNER.public)
    assert read_fingerprint(shown) == read_fingerprint(shown.replace(" ", "")) == SIGNER.public
    for wrong in ("", "abc", shown[:-2], "z" * 64):
        with pytest.raises(ConfigurationError, match="no fingerprint"):
            read_fingerprint(wrong)
