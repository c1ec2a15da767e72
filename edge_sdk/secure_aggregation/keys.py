"""Keys of a masked sum: X25519 agreement (RFC 7748), HKDF-SHA256 (RFC 5869), ChaCha20-Poly1305 (RFC 8439), Ed25519.

Identity keys sign Advertisement (all of its other fields), Ready (hash of the roster, sharers) and Consent (hash of the
roster, survivors, dropped), each as `Terms.context` of its kind: "advertisement", "ready", "consent".

All other keys are for one attempt, and each for one purpose, which HKDF's info names (no salt):

    mask_key's private key       HKDF(16 random bytes, ["impasto/1 mask key", ..., device])
    mask of a pair               HKDF(X25519(mask keys), ["impasto/1 pair mask", ..., first, second, roster])
    mask of one device           HKDF(16 random bytes, ["impasto/1 self mask", ..., device, roster])
    encryption of shares         HKDF(X25519(share keys), ["impasto/1 share", ..., from, to, roster])

with "..." as in `Terms.context`: federation, epoch, round, attempt, hash of the signed step. `first` and `second` are
the names of a pair in the roster's order, `roster` is the hash of the roster. Each key encrypts one message, so that
the nonce is 0. The two secrets of a device have 16 bytes, which is the block of Shamir's scheme, and as strong as
X25519.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from edge_sdk.errors import ShareInvalid
from edge_sdk.secure_aggregation.messages import Advertisement
from edge_sdk.secure_aggregation.policy import Parameters
from edge_sdk.secure_aggregation.terms import Terms
from edge_sdk.wire import signed_by

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

# cryptography is imported where it is used, so that a device that only draws never waits for it.

RANDOM_BYTES = 80
"""Bytes of the system's generator that the secrets of an attempt take."""
_NONCE = bytes(12)


class Secrets(msgspec.Struct, frozen=True):
    """Random numbers of one device for one attempt; none is ever used for another.

    Attributes:
        mask_seed: 16 bytes, from which the private mask key is derived; shared.
        self_seed: 16 bytes, from which the self mask is derived; shared.
        number: 16 bytes, its part of the graph's seed.
        share_private: 32 bytes, the private share key.
    """

    mask_seed: bytes
    self_seed: bytes
    number: bytes
    share_private: bytes

    def __repr__(self) -> str:
        """The name alone, so that no log shows a secret."""
        return "Secrets(...)"


def split_randomness(random: bytes) -> Secrets:
    """Secrets from `RANDOM_BYTES` of the system's generator."""
    assert len(random) == RANDOM_BYTES, "three numbers of 16 bytes and a private key"
    return Secrets(random[:16], random[16:32], random[32:48], random[48:])


def mask_private_key(terms: Terms, device: str, mask_seed: bytes) -> X25519PrivateKey:
    """The private mask key of a device."""
    return _private(derived(mask_seed, terms.context("mask key", device)))


def public_of(private: X25519PrivateKey) -> bytes:
    """The public key of a private one, 32 bytes."""
    return private.public_key().public_bytes_raw()


def advertised(terms: Terms, device: str, identity: bytes, secrets: Secrets) -> Advertisement:
    """The signed advertisement of a device with this private identity key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    unsigned = Advertisement(
        device=device,
        identity=Ed25519PrivateKey.from_private_bytes(identity).public_key().public_bytes_raw(),
        mask_key=public_of(mask_private_key(terms, device, secrets.mask_seed)),
        share_key=public_of(_private(secrets.share_private)),
        commitment=commitment(terms, device, secrets.number),
        signature=bytes(64),
    )
    content = terms.context("advertisement", *unsigned.signed_fields)
    return msgspec.structs.replace(unsigned, signature=sign(identity, content))


def is_signed(terms: Terms, advertisement: Advertisement) -> bool:
    """True if an advertisement is signed by its identity key for these terms."""
    content = terms.context("advertisement", *advertisement.signed_fields)
    return signed_by(advertisement.identity, advertisement.signature, content)


def sign(identity: bytes, content: bytes) -> bytes:
    """The signature of a private identity key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(identity).sign(content)


def ready_content(terms: Terms, roster: bytes, sharers: bytes) -> bytes:
    """The content that Ready signs: a device masks for these sharers, and no others."""
    return terms.context("ready", roster, sharers)


def consent_content(terms: Terms, roster: bytes, survivors: bytes, dropped: bytes) -> bytes:
    """The content that Consent signs: a device helps to unmask this sum, and no other."""
    return terms.context("consent", roster, survivors, dropped)


def has_usable_keys(advertisement: Advertisement) -> bool:
    """True unless one of the X25519 keys is a point of low order, with which no secret can be agreed on."""
    anybody = _private(bytes(range(32)))
    try:
        _agreed(anybody, advertisement.mask_key)
        _agreed(anybody, advertisement.share_key)
    except ShareInvalid:
        return False
    return True


def commitment(terms: Terms, device: str, number: bytes) -> bytes:
    """The commitment of a device to its number."""
    return hashlib.sha256(terms.context("number", device, number)).digest()


def self_check(terms: Terms, device: str, self_seed: bytes) -> bytes:
    """Hash by which the secret of a self mask is known again."""
    return hashlib.sha256(terms.context("self check", device, self_seed)).digest()


def roster_hash(terms: Terms, given: Parameters, devices: Sequence[Advertisement]) -> bytes:
    """SHA-256 of a roster: its parameters, and all fields of all advertisements."""
    entries = [[*entry.signed_fields, entry.signature] for entry in devices]
    return hashlib.sha256(terms.context("roster", given.neighbours, given.threshold, entries)).digest()


def pair_mask_key(
    terms: Terms, roster: bytes, private: X25519PrivateKey, public: bytes, first: str, second: str
) -> bytes:
    """The key of a pair's mask: one of the two gives its private key, and the other's public one.

    Raises:
        ShareInvalid: the public key is none.
    """
    return derived(_agreed(private, public), terms.context("pair mask", first, second, roster))


def self_mask_key(terms: Terms, roster: bytes, device: str, self_seed: bytes) -> bytes:
    """The key of a device's self mask."""
    return derived(self_seed, terms.context("self mask", device, roster))


class Sealer:
    """Encryption of shares between one device and others.

    Args:
        terms: the terms of the sum.
        roster: hash of the roster.
        device: the device's name.
        private: its private share key, 32 bytes.
    """

    def __init__(self, terms: Terms, roster: bytes, device: str, private: bytes) -> None:
        self._terms, self._roster, self._device = terms, roster, device
        self._private = _private(private)

    def sealed(self, receiver: Advertisement, shares: bytes) -> bytes:
        """Encrypt shares for another device; raises ShareInvalid if its public key is none."""
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        key = self._key(receiver.share_key, self._device, receiver.device)
        return ChaCha20Poly1305(key).encrypt(_NONCE, shares, None)

    def opened(self, sender: Advertisement, sealed: bytes) -> bytes:
        """Decrypt the shares of another device.

        Raises:
            ShareInvalid: they are not from this device for that one in this attempt, or were changed on the way.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        key = self._key(sender.share_key, sender.device, self._device)
        try:
            return ChaCha20Poly1305(key).decrypt(_NONCE, sealed, None)
        except InvalidTag:
            raise ShareInvalid(
                f"The shares of {sender.device!r} cannot be decrypted: they were changed on the way, or are of another "
                "attempt, roster or step. This device sends nothing more for them."
            ) from None

    def _key(self, public: bytes, sender: str, receiver: str) -> bytes:
        return derived(_agreed(self._private, public), self._terms.context("share", sender, receiver, self._roster))


def derived(secret: bytes, info: bytes) -> bytes:
    """32 bytes of HKDF-SHA256, without a salt."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), 32, None, info).derive(secret)


def _private(data: bytes) -> X25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(data)


def _agreed(private: X25519PrivateKey, public: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:  # a point of low order, with which every secret is 0
        raise ShareInvalid(f"{public.hex()} is no public key of a device: no secret comes of it.") from None
