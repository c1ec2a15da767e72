"""Known answers, by which another implementation can be checked: vectors.json beside this file.

`python -m tests.secure_aggregation.test_vectors` writes the file anew; a change of it breaks the protocol.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge_sdk.secure_aggregation import (
    Advertise,
    Layout,
    Parameters,
    Reveal,
    Scaled,
    UnmaskRequest,
    bitmap,
    commitment,
    consent_content,
    encode,
    encoded,
    graph,
    mask,
    mask_private_key,
    pair_mask_key,
    public_of,
    ready_content,
    restored,
    ring_seed,
    roster_hash,
    self_check,
    self_mask_key,
)
from edge_sdk.secure_aggregation.keys import Sealer, advertised, derived, sign, split_randomness
from tests.secure_aggregation.world import identity, random_bytes, terms

FILE = Path(__file__).parent / "vectors.json"
NAMES = ("alice", "bob", "carol")


def made() -> dict[str, Any]:
    """All known answers; bytes are hex digits."""
    given = terms(8)
    secrets = {name: split_randomness(random_bytes(name)) for name in NAMES}
    roster = [advertised(given, name, identity(name), secrets[name]) for name in NAMES]
    digest = roster_hash(given, Parameters(2, 2), roster)
    alice = mask_private_key(given, "alice", secrets["alice"].mask_seed)
    pair = pair_mask_key(given, digest, alice, roster[1].mask_key, "alice", "bob")
    sealer = Sealer(given, digest, "alice", secrets["alice"].share_private)
    ring = graph(60, 6, bytes(range(32)))
    layout = Layout(
        slots=2, tensors=(Scaled(name="a", size=3, scale=0.5),), common=(Scaled(name="l", size=1, scale=2.0),)
    )
    survivors, dropped = bitmap({0, 1}, 3), bitmap({2}, 3)
    ready = ready_content(given, digest, bitmap({0, 1, 2}, 3))
    consent = consent_content(given, digest, survivors, dropped)
    request = UnmaskRequest(
        epoch=7, round=3, attempt=1, survivors=survivors, dropped=dropped, ready=sign(identity("bob"), ready)
    )
    return {
        "terms": {"federation": "stickers", "epoch": 7, "round": 3, "attempt": 1, "step": given.step.hex()},
        "devices": {
            name: {
                "identity": identity(name).hex(),
                "mask_seed": secrets[name].mask_seed.hex(),
                "self_seed": secrets[name].self_seed.hex(),
                "number": secrets[name].number.hex(),
                "share_private": secrets[name].share_private.hex(),
                "commitment": commitment(given, name, secrets[name].number).hex(),
                "self_check": self_check(given, name, secrets[name].self_seed).hex(),
                "advertise": encode(Advertise(epoch=7, round=3, attempt=1, advertisement=entry)).hex(),
            }
            for name, entry in zip(NAMES, roster, strict=True)
        },
        "info": {
            "mask key": given.context("mask key", "alice").hex(),
            "pair mask": given.context("pair mask", "alice", "bob", digest).hex(),
            "self mask": given.context("self mask", "alice", digest).hex(),
            "ready": ready.hex(),
            "consent": consent.hex(),
            "share": given.context("share", "alice", "bob", digest).hex(),
        },
        "roster_hash": digest.hex(),
        "mask_key": public_of(alice).hex(),
        "pair_mask_key": pair.hex(),
        "self_mask_key": self_mask_key(given, digest, "alice", secrets["alice"].self_seed).hex(),
        "sealed": sealer.sealed(roster[1], bytes(range(32))).hex(),
        "mask": mask(pair, 20).tolist(),
        "seed": ring_seed(digest, [secrets[name].number for name in NAMES]).hex(),
        "graph": {
            "seed": bytes(range(32)).hex(),
            "devices": 60,
            "neighbours": 6,
            "ring": list(ring.ring),
            "holders of 0": ring.holders(0),
        },
        "vector": encoded(layout, 1, 0.5, {"a": [0.5, -0.25, 0.1]}, {"l": [1.0]}, random=bytes).tolist(),
        "messages": {
            "reveal": encode(Reveal(epoch=7, round=3, attempt=1, number=secrets["alice"].number)).hex(),
            "unmaskrequest": encode(request).hex(),
        },
    }


def test_known_answers() -> None:
    assert json.loads(FILE.read_text("utf-8")) == made()


def test_both_of_a_pair_have_the_same_mask() -> None:
    known = made()
    given = terms(8)
    secrets = {name: split_randomness(random_bytes(name)) for name in NAMES}
    bob = mask_private_key(given, "bob", secrets["bob"].mask_seed)
    digest = bytes.fromhex(known["roster_hash"])
    key = pair_mask_key(given, digest, bob, bytes.fromhex(known["mask_key"]), "alice", "bob")
    assert key.hex() == known["pair_mask_key"]


def test_hkdf_and_chacha20_are_those_of_the_standards() -> None:
    """RFC 5869 A.3 has no salt and no info; ChaCha20's first block for key and nonce 0 is in RFC 8439 A.1."""
    assert derived(b"\x0b" * 22, b"").hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    stream = mask(bytes(32), 16).astype("<u4").tobytes()
    assert stream.hex().startswith("76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7")


@pytest.mark.parametrize("part", ["federation", "epoch", "round", "attempt", "step"])
def test_the_info_names_all_that_keys_are_for(part: str) -> None:
    other = {"federation": "others", "epoch": 8, "round": 4, "attempt": 2, "step": bytes(32)}[part]
    private = X25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = public_of(X25519PrivateKey.from_private_bytes(bytes(range(1, 33))))
    keys = {
        pair_mask_key(terms(), bytes(32), private, public, "a", "b"),
        pair_mask_key(terms(**{part: other}), bytes(32), private, public, "a", "b"),
        pair_mask_key(terms(), bytes([1] * 32), private, public, "a", "b"),
        pair_mask_key(terms(), bytes(32), private, public, "a", "c"),
        pair_mask_key(terms(), bytes(32), private, public, "c", "b"),
    }
    assert len(keys) == 5


def test_a_shamir_sharing_of_another_library_is_read() -> None:
    """Shares of the secret 00..0f over GF(2^128) with x^128 + x^7 + x^2 + x + 1, worked out by carry-less products."""
    secret, slope = bytes(range(16)), int.from_bytes(b"\x80" + bytes(14) + b"\x03", "big")

    def times(a: int, b: int) -> int:
        product = 0
        for bit in range(128):
            product ^= (a << bit) * (b >> bit & 1)
        for bit in range(254, 127, -1):
            product ^= (0x100000000000000000000000000000087 << bit - 128) * (product >> bit & 1)
        return product

    shares = {x: (int.from_bytes(secret, "big") ^ times(slope, x)).to_bytes(16, "big") for x in (1, 2, 5)}
    assert restored(shares, 2, lambda found: found == secret, "alice") == (secret, frozenset())


if __name__ == "__main__":
    FILE.write_text(json.dumps(made(), indent=1) + "\n", "utf-8")
