"""Signatures of steps, states and hellos, and keys that vouch for their successors."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from edge_sdk.errors import ConfigurationError, CoordinatorUntrusted, MessageInvalid, SignatureInvalid
from edge_sdk.wire.messages import (
    CoordinatorState,
    DeviceProfile,
    Finished,
    Join,
    SignedStep,
    SignedSum,
    Step,
    Succession,
    Sum,
    Welcome,
    decode,
    encode,
)
from edge_sdk.wire.signing import (
    Greeter,
    Signer,
    fingerprint,
    greets,
    new_key,
    profile_hash,
    read_fingerprint,
    recognised,
    trusted,
    verified,
    verified_sum,
)
from edge_sdk.wire.transfer import make_manifest
from tests.membership.stage import start

SIGNER, OTHER = Signer(bytes(range(32)), "tastes"), Signer(new_key(), "tastes")
ROOT, CLUSTER = (make_manifest(content, "root", name) for content, name in ((b"1", "root"), (b"2", "cluster-0")))
STEPS: list[Step] = [
    start(1),
    start(2, frozen=[ROOT, CLUSTER], start=CLUSTER),
    Finished(rounds=3, cluster=0, adapters=[ROOT, CLUSTER]),
    Finished(rounds=3, cluster=0, adapters=[]),
]
STATE = SIGNER.state(online=True, epoch=7, base_id="b1", level="plain", successions=[OTHER.succession(SIGNER.public)])


class TestSteps:
    @pytest.mark.parametrize("step", STEPS)
    def test_come_through(self, step: Step) -> None:
        received = decode(encode(SIGNER.signed(step, "pi-4", 7)))
        assert isinstance(received, SignedStep)
        assert received.epoch == 7
        assert verified(received, SIGNER.public, "tastes", "pi-4") == step
        assert SIGNER.signed(step, "pi-4", 7) == received

    @pytest.mark.parametrize("step", STEPS)
    def test_of_others_or_for_others_are_refused(self, step: Step) -> None:
        good = SIGNER.signed(step, "pi-4", 7)
        for forged, federation, device in (
            (replace(good, signature=bytes(64)), "tastes", "pi-4"),
            (OTHER.signed(step, "pi-4", 7), "tastes", "pi-4"),
            (Signer(bytes(range(32)), "paintings").signed(step, "pi-4", 7), "tastes", "pi-4"),
            (good, "paintings", "pi-4"),
            (good, "tastes", "pi-5"),
            (replace(good, epoch=8), "tastes", "pi-4"),
        ):
            with pytest.raises(SignatureInvalid, match="not signed for"):
                verified(forged, SIGNER.public, federation, device)

    @pytest.mark.parametrize(
        "change", [{"role": "cluster"}, {"name": "x"}, {"sha256": "0" * 64}, {"size": 2}, {"chunk_size": 1024}]
    )
    def test_are_signed_with_all_that_they_say_of_an_adapter(self, change: dict[str, Any]) -> None:
        good = SIGNER.signed(Finished(rounds=1, cluster=0, adapters=[ROOT]), "pi-4", 7)
        moved = encode(Finished(rounds=1, cluster=0, adapters=[replace(ROOT, **change)]))
        with pytest.raises(SignatureInvalid):
            verified(replace(good, step=moved), SIGNER.public, "tastes", "pi-4")

    def test_are_signed_as_they_stand(self) -> None:
        """The same values in other bytes are another step: a check need not encode anything again."""
        good = SIGNER.signed(STEPS[0], "pi-4", 7)
        values = msgspec.msgpack.decode(good.step)
        other = msgspec.msgpack.encode(dict(reversed(values.items())))
        assert decode(other) == STEPS[0]
        with pytest.raises(SignatureInvalid):
            verified(replace(good, step=other), SIGNER.public, "tastes", "pi-4")

    def test_nothing_else_is_one_whoever_signs_it(self) -> None:
        with pytest.raises(MessageInvalid, match="signed as a step"):
            verified(SIGNER.signed(Welcome(round=0, rounds=1), "pi-4", 7), SIGNER.public, "tastes", "pi-4")  # type: ignore[arg-type]

    def test_and_other_things_that_are_signed_do_not_stand_for_each_other(self) -> None:
        said = SIGNER.succession(OTHER.public)
        with pytest.raises(SignatureInvalid):
            verified(SignedStep(epoch=7, step=OTHER.public, signature=said.signature), SIGNER.public, "tastes", "pi-4")
        with pytest.raises(SignatureInvalid):
            verified(
                SignedStep(epoch=7, step=encode(STATE), signature=STATE.signature), SIGNER.public, "tastes", "pi-4"
            )


class TestStates:
    def test_are_recognised(self) -> None:
        received = decode(encode(STATE))
        assert isinstance(received, CoordinatorState)
        for pinned in (None, SIGNER.public, OTHER.public):
            assert recognised(pinned, received, "tastes") == SIGNER.public
        with pytest.raises(CoordinatorUntrusted):
            recognised(Signer(new_key(), "tastes").public, received, "tastes")

    @pytest.mark.parametrize(
        "change",
        [
            {"online": False},
            {"epoch": 8},
            {"federation": "paintings"},
            {"base_id": "b2"},
            {"key": OTHER.public},
            {"successions": []},
            {"signature": bytes(64)},
        ],
    )
    def test_that_were_changed_are_not(self, change: dict[str, Any]) -> None:
        with pytest.raises(SignatureInvalid, match="has not signed with it"):
            recognised(None, replace(STATE, **change), "tastes")

    def test_of_another_federation_are_not(self) -> None:
        with pytest.raises(SignatureInvalid):
            recognised(None, STATE, "paintings")


def test_what_is_signed_is_what_the_protocol_says() -> None:
    """By hand, as in docs/protocol.md."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))

    def signature(*content: object) -> bytes:
        return key.sign(msgspec.msgpack.encode(content))

    step = encode(STEPS[1])
    assert SIGNER.signed(STEPS[1], "pi-4", 7).signature == signature("impasto/1 step", "tastes", "pi-4", 7, step)
    said: list[Succession] = STATE.successions
    pairs = [[s.old, s.new, s.signature] for s in said]
    assert STATE.signature == signature("impasto/1 state", "tastes", 7, True, "b1", SIGNER.public, pairs, "plain")
    masked = SIGNER.state(online=True, epoch=7, base_id="b1", level="plain", masked=True)
    assert masked.signature == signature("impasto/1 state", "tastes", 7, True, "b1", SIGNER.public, [], "plain", True)
    assert "masked" not in msgspec.msgpack.decode(encode(STATE)), "devices of earlier versions can read it"
    assert SIGNER.succession(OTHER.public).signature == signature("impasto/1 key", "tastes", OTHER.public)


class TestHellos:
    greeter = Greeter(bytes(32), "tastes", "pi-4")
    profile = DeviceProfile(
        base_id="b1", prompt_code=bytes(8), pictures=12, max_rank=8, capabilities={"z": "1", "a": "2"},
        key=greeter.public, picture_code=bytes(4), picture_encoder=b"e" * 32,
    )  # fmt: skip

    def test_are_signed_as_the_protocol_says(self) -> None:
        """By hand, as in docs/protocol.md."""
        fields = [
            "b1",
            bytes(8),
            12,
            8,
            [["a", "2"], ["z", "1"]],
            self.greeter.public,
            "plain",
            b"",
            bytes(4),
            b"e" * 32,
        ]
        digest = hashlib.sha256(msgspec.msgpack.encode(fields)).digest()
        assert profile_hash(self.profile) == digest
        content = msgspec.msgpack.encode(["impasto/1 hello", "tastes", "pi-4", 7, 3, digest])
        hello = self.greeter.hello(self.profile, 7, 3)
        assert hello.signature == Ed25519PrivateKey.from_private_bytes(bytes(32)).sign(content)
        assert greets(hello, self.greeter.public, digest, "tastes", "pi-4")
        assert len(encode(hello)) < 130

    def test_need_a_key(self) -> None:
        assert not greets(self.greeter.hello(self.profile, 7, 3), b"", profile_hash(self.profile), "tastes", "pi-4")

    @pytest.mark.parametrize("size", [1, 31, 33])
    def test_need_a_whole_one(self, size: int) -> None:
        join = msgspec.msgpack.decode(encode(Join(profile=self.profile)))
        join["profile"]["key"] = bytes(size)
        with pytest.raises(MessageInvalid):
            decode(msgspec.msgpack.encode(join))


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


class TestSums:
    SAID = SIGNER.signed_sum(Sum(content=b"roster"), "pi-4", 7)

    def test_come_through(self) -> None:
        received = decode(encode(self.SAID))
        assert isinstance(received, SignedSum)
        assert verified_sum(received, SIGNER.public, "tastes", "pi-4") == Sum(content=b"roster")

    @pytest.mark.parametrize("change", [{"content": b"another"}, {"epoch": 8}, {"signature": bytes(64)}])
    def test_a_change_is_seen(self, change: dict[str, Any]) -> None:
        with pytest.raises(SignatureInvalid, match="masked sum is not signed for 'pi-4'"):
            verified_sum(replace(self.SAID, **change), SIGNER.public, "tastes", "pi-4")

    @pytest.mark.parametrize(
        ("key", "federation", "device"),
        [(OTHER.public, "tastes", "pi-4"), (SIGNER.public, "others", "pi-4"), (SIGNER.public, "tastes", "pi-5")],
        ids=["key", "federation", "device"],
    )
    def test_they_are_for_one_device_of_one_federation(self, key: bytes, federation: str, device: str) -> None:
        with pytest.raises(SignatureInvalid):
            verified_sum(self.SAID, key, federation, device)

    def test_a_step_is_no_sum(self) -> None:
        step = SIGNER.signed(STEPS[0], "pi-4", 7)
        with pytest.raises(SignatureInvalid):
            verified_sum(
                SignedSum(epoch=7, content=step.step, signature=step.signature), SIGNER.public, "tastes", "pi-4"
            )
