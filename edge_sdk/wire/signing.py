"""Who announces an adapter: Ed25519 signatures (RFC 8032) of manifests, and keys that vouch for their successors.

A manifest holds the hash of its content, so that a signature of the manifest is one of the content. What is signed is
the msgpack array

    ["impasto/1 manifest", federation, role, name, sha256, size]

A device keeps the coordinator's public key from its first meeting and refuses others. A key is replaced by one that it
has signed itself, as ["impasto/1 key", federation, new key]; a device that was away for several replacements follows
the chain. No I/O here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from edge_sdk.errors import ConfigurationError, CoordinatorUntrusted, SignatureInvalid
from edge_sdk.wire.messages import Finished, Manifest, RoundStart, Step, Succession

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# cryptography is imported where it is used: a device that only draws never waits for it.


class Signer:
    """A coordinator's private key, at work for one federation.

    Args:
        private: 32 bytes, as `new_key` makes them.
    """

    def __init__(self, private: bytes, federation: str) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key: Ed25519PrivateKey = Ed25519PrivateKey.from_private_bytes(private)
        self._federation = federation

    @property
    def public(self) -> bytes:
        """The key to check with, 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def signed(self, step: Step) -> Step:
        """The same message with all its manifests signed. Equal messages get equal signatures."""
        return _with_manifests(step, self._signed)

    def succession(self, new: bytes) -> Succession:
        """This key's word for another public key."""
        return Succession(old=self.public, new=new, signature=self._key.sign(_of_key(self._federation, new)))

    def _signed(self, manifest: Manifest) -> Manifest:
        return replace(manifest, signature=self._key.sign(_of_manifest(self._federation, manifest)))


def new_key() -> bytes:
    """A private key by the system's generator, 32 bytes."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate().private_bytes_raw()


def verified(step: Step, public: bytes, federation: str) -> Step:
    """The message with its signatures checked and taken off: they say nothing more from here on.

    Raises:
        SignatureInvalid: a manifest is not signed, or not by this key for this federation.
    """

    def check(manifest: Manifest) -> Manifest:
        if not _signed_by(public, manifest.signature, _of_manifest(federation, manifest)):
            raise SignatureInvalid(
                f"{manifest.name!r} is not signed by the coordinator of {federation!r} that this device knows: it is "
                "not fetched. Somebody else can write on this device's topics; tell the operator of the broker."
            )
        return replace(manifest, signature=b"")

    return _with_manifests(step, check)


def trusted(pinned: bytes | None, shown: bytes, successions: Sequence[Succession], federation: str) -> bytes:
    """The key to trust from now on: the one that is shown, if it is pinned, or if pinned keys vouch for it.

    Raises:
        CoordinatorUntrusted: it is neither.
    """
    if pinned is None:
        return shown
    at = pinned
    for _ in range(len(successions) + 1):
        if at == shown:
            return shown
        following = [s.new for s in successions if s.old == at and _vouches(s, federation)]
        if not following:
            break
        at = following[-1]
    raise CoordinatorUntrusted(
        f"The coordinator of {federation!r} shows key {fingerprint(shown)}, this device trusts {fingerprint(pinned)} "
        "only. If its operator says that the key was lost and replaced, join once with that fingerprint "
        "(`impasto join --trust`); otherwise do not."
    )


def fingerprint(public: bytes) -> str:
    """A public key for people to compare: 64 hex digits in groups of 8."""
    digits = public.hex()
    return " ".join(digits[at : at + 8] for at in range(0, len(digits), 8))


def read_fingerprint(text: str) -> bytes:
    """The public key of a fingerprint, with or without its spaces.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigurationError(
            f"{text[:100]!r} is no fingerprint of a key: 64 hex digits, as `impasto-coordinator key` shows them."
        )
    return key


def _vouches(succession: Succession, federation: str) -> bool:
    return _signed_by(succession.old, succession.signature, _of_key(federation, succession.new))


def _signed_by(public: bytes, signature: bytes, content: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _of_manifest(federation: str, manifest: Manifest) -> bytes:
    content: list[Any] = [federation, manifest.role, manifest.name, manifest.sha256, manifest.size]
    return msgspec.msgpack.encode(["impasto/1 manifest", *content])


def _of_key(federation: str, new: bytes) -> bytes:
    return msgspec.msgpack.encode(["impasto/1 key", federation, new])


def _with_manifests(step: Step, change: Callable[[Manifest], Manifest]) -> Step:
    if isinstance(step, Finished):
        return replace(step, adapters=[change(manifest) for manifest in step.adapters])
    assert isinstance(step, RoundStart), "there are two kinds of steps"
    start = change(step.start) if step.start else None
    return replace(step, frozen=[change(manifest) for manifest in step.frozen], start=start)
