"""Ed25519 signatures (RFC 8032) of a coordinator's steps and states, of keys that vouch for their successors, and of
devices' hellos; and of what is said when a device is forgotten.

Signatures cover msgpack arrays in the shortest encoding, whose first element tells their kinds apart:

    ["impasto/1 step", federation, device, epoch, step]     step: the encoded step, as it is sent
    ["impasto/1 sum", federation, device, epoch, content]   content: the encoded message of a masked sum, as it is sent
    ["impasto/1 state", federation, epoch, online, base_id, key, [[old, new, signature], ...], level]
                                                            and true at its end if updates are summed under masks,
                                                            and [epsilon, delta] if answers to questions have noise
    ["impasto/1 key", federation, new key]
    ["impasto/1 hello", federation, device, epoch, number, profile]       profile: `profile_hash` of the last Join
    ["impasto/1 forget", federation, device]
    ["impasto/1 forgotten", federation, device, key]        key: the device's

A step holds the hashes of the adapters that it names, so that its signature covers their contents, too. It is for one
device and one epoch of the coordinator, by which a device recognises replays of earlier epochs.

A device keeps the first public key that a coordinator shows it, and refuses others. A key is replaced by one that it
has signed itself; a device that has missed several replacements follows the chain.

A device's key is not kept to: its Join names one, which may be another every time. A good hello shows that the last
Join which the coordinator has was this device's own. A key that has signed Forget signs nothing afterwards, and no Join
with it is accepted: so a Forget that is sent again takes nothing from a device that has come back with another key.
No I/O here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from edge_sdk.errors import ConfigurationError, CoordinatorUntrusted, SignatureInvalid
from edge_sdk.privacy import Guarantee
from edge_sdk.wire.messages import (
    CoordinatorState,
    DeviceProfile,
    Forget,
    Forgotten,
    Hello,
    SignedStep,
    SignedSum,
    Step,
    Succession,
    Sum,
    decode_step,
    encode,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# cryptography is imported where it is used, so that a device that only draws never waits for it.

_UNSIGNED = bytes(64)


class Signer:
    """A coordinator's private key for one federation, which signs its steps and states.

    Args:
        private: 32 bytes, as `new_key` makes them.
    """

    def __init__(self, private: bytes, federation: str) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key: Ed25519PrivateKey = Ed25519PrivateKey.from_private_bytes(private)
        self._federation = federation

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def signed(self, step: Step, device: str, epoch: int) -> SignedStep:
        """Sign a step for a device. Equal steps get equal signatures."""
        data = encode(step)
        signature = self._key.sign(_of_step(self._federation, device, epoch, data))
        return SignedStep(epoch=epoch, step=data, signature=signature)

    def signed_sum(self, said: Sum, device: str, epoch: int) -> SignedSum:
        """Sign a message of a masked sum for a device."""
        signature = self._key.sign(_of_sum(self._federation, device, epoch, said.content))
        return SignedSum(epoch=epoch, content=said.content, signature=signature)

    def forgotten(self, device: str, key: bytes) -> Forgotten:
        """Sign that nothing is kept of the device with this public key."""
        return Forgotten(key=key, signature=self._key.sign(_of_forgotten(self._federation, device, key)))

    def state(
        self,
        *,
        online: bool,
        epoch: int,
        base_id: str,
        level: str,
        masked: bool = False,
        noise: Guarantee | None = None,
        successions: Sequence[Succession] = (),
    ) -> CoordinatorState:
        """The signed state of the coordinator with this key."""
        state = CoordinatorState(
            online=online,
            epoch=epoch,
            federation=self._federation,
            base_id=base_id,
            level=level,
            masked=True if masked else msgspec.UNSET,
            noise=noise or msgspec.UNSET,
            key=self.public,
            successions=list(successions),
            signature=_UNSIGNED,
        )
        return replace(state, signature=self._key.sign(_of_state(self._federation, state)))

    def voucher(self, helper: str, key: bytes) -> bytes:
        """This key's signature of the public key of a helper of the federation."""
        return self._key.sign(self.of_voucher(self._federation, helper, key))

    @staticmethod
    def of_voucher(federation: str, helper: str, key: bytes) -> bytes:
        """The content that `voucher` signs."""
        return msgspec.msgpack.encode(["impasto/1 helper", federation, helper, key])

    def succession(self, new: bytes) -> Succession:
        """This key's signed statement that another public key succeeds it."""
        return Succession(old=self.public, new=new, signature=self._key.sign(_of_key(self._federation, new)))


class Greeter:
    """A device's private key, which signs its hellos.

    Args:
        private: 32 bytes, as `new_key` makes them.
    """

    def __init__(self, private: bytes, federation: str, device: str) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key: Ed25519PrivateKey = Ed25519PrivateKey.from_private_bytes(private)
        self._federation = federation
        self._device = device

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes, for the device's profile."""
        return self._key.public_key().public_bytes_raw()

    def hello(self, profile: DeviceProfile, epoch: int, number: int) -> Hello:
        """The signed hello of a device whose last Join had this profile."""
        content = _of_hello(self._federation, self._device, epoch, number, profile_hash(profile))
        return Hello(epoch=epoch, number=number, signature=self._key.sign(content))

    def forget(self) -> Forget:
        """The signed wish that nothing of this device is kept; its key is not to be used afterwards."""
        return Forget(key=self.public, signature=self._key.sign(_of_forget(self._federation, self._device)))


def asks_to_forget(forget: Forget, federation: str, device: str) -> bool:
    """True if a Forget is signed for this device of this federation by the key that it names."""
    return signed_by(forget.key, forget.signature, _of_forget(federation, device))


def confirms(forgotten: Forgotten, public: bytes, federation: str, device: str, key: bytes) -> bool:
    """True if the coordinator with this public key has signed that it keeps nothing of the device with this key."""
    signed = signed_by(public, forgotten.signature, _of_forgotten(federation, device, key))
    return forgotten.key == key and signed


def greets(hello: Hello, key: bytes, profile: bytes, federation: str, device: str) -> bool:
    """True if a hello is signed by the device with this public key, for a profile of this hash."""
    content = _of_hello(federation, device, hello.epoch, hello.number, profile)
    return len(key) == 32 and signed_by(key, hello.signature, content)


def profile_hash(profile: DeviceProfile) -> bytes:
    """SHA-256 of a profile, encoded as an array of its fields; capabilities are pairs, sorted by their names."""
    capabilities = [list(pair) for pair in sorted(profile.capabilities.items())]
    fields = [
        profile.base_id, profile.prompt_code, profile.pictures, profile.max_rank, capabilities, profile.key,
        profile.level, profile.basis, profile.picture_code, profile.picture_encoder,
    ]  # fmt: skip
    return hashlib.sha256(msgspec.msgpack.encode(fields)).digest()


def key_hash(public: bytes) -> str:
    """SHA-256 of a public key, in hex: all that is kept of a device that was forgotten."""
    return hashlib.sha256(public).hexdigest()


def new_key() -> bytes:
    """A new private key from the system's random generator, 32 bytes."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate().private_bytes_raw()


def verified(signed: SignedStep, public: bytes, federation: str, device: str) -> Step:
    """Check that a step is signed by this key for this device of this federation, and return it.

    Raises:
        SignatureInvalid: the signature is not valid.
        MessageInvalid: the signature is valid, but its content is no step.
    """
    if not signed_by(public, signed.signature, _of_step(federation, device, signed.epoch, signed.step)):
        raise SignatureInvalid(
            f"A step is not signed for {device!r} by the coordinator of {federation!r} that this device knows: nothing "
            "comes of it. Somebody else can write on this device's topics; tell the operator of the broker."
        )
    return decode_step(signed.step)


def verified_sum(signed: SignedSum, public: bytes, federation: str, device: str) -> Sum:
    """Check that a message of a masked sum is signed by this key for this device of this federation, and return it.

    Raises:
        SignatureInvalid: the signature is not valid.
    """
    if not signed_by(public, signed.signature, _of_sum(federation, device, signed.epoch, signed.content)):
        raise SignatureInvalid(
            f"A message of a masked sum is not signed for {device!r} by the coordinator of {federation!r} that this "
            "device knows: nothing comes of it. Somebody else can write on this device's topics; tell the operator of "
            "the broker."
        )
    return Sum(content=signed.content)


def recognised(pinned: bytes | None, state: CoordinatorState, federation: str) -> bytes:
    """The key to trust from now on: that of a coordinator's state, if it is `trusted` and has signed the state.

    Raises:
        CoordinatorUntrusted: the state shows another key.
        SignatureInvalid: the state shows a trusted key, but is not signed by it.
    """
    key = trusted(pinned, state.key, state.successions, federation)
    if state.federation != federation or not signed_by(key, state.signature, _of_state(federation, state)):
        raise SignatureInvalid(
            f"Somebody shows key {fingerprint(key)} as the coordinator of {federation!r}, but has not signed with it: "
            "it is not listened to. Somebody else can write on the coordinator's topic; tell the operator of the "
            "broker."
        )
    return key


def trusted(pinned: bytes | None, shown: bytes, successions: Sequence[Succession], federation: str) -> bytes:
    """The key to trust from now on: the one shown, if it is pinned, if none is, or if a chain of keys vouches for it.

    Raises:
        CoordinatorUntrusted: another key is pinned, and no chain leads from it to the one shown.
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
    """Fingerprint of a public key, for people to compare: 64 hex digits in groups of 8."""
    digits = public.hex()
    return " ".join(digits[at : at + 8] for at in range(0, len(digits), 8))


def read_fingerprint(text: str) -> bytes:
    """The public key of a fingerprint, with or without its spaces.

    Raises:
        ConfigurationError: the text is no fingerprint.
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
    return signed_by(succession.old, succession.signature, _of_key(federation, succession.new))


def signed_by(public: bytes, signature: bytes, content: bytes) -> bool:
    """True if a signature of a content is by this Ed25519 public key, of 32 bytes."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _of_step(federation: str, device: str, epoch: int, step: bytes) -> bytes:
    return msgspec.msgpack.encode(["impasto/1 step", federation, device, epoch, step])


def _of_sum(federation: str, device: str, epoch: int, content: bytes) -> bytes:
    return msgspec.msgpack.encode(["impasto/1 sum", federation, device, epoch, content])


def _of_state(federation: str, state: CoordinatorState) -> bytes:
    said = [[s.old, s.new, s.signature] for s in state.successions]
    facts = [federation, state.epoch, state.online, state.base_id, state.key, said, state.level]
    masked = [True] if state.masked is True else []
    noise = [[state.noise.epsilon, state.noise.delta]] if isinstance(state.noise, Guarantee) else []
    return msgspec.msgpack.encode(["impasto/1 state", *facts, *masked, *noise])


def _of_hello(federation: str, device: str, epoch: int, number: int, profile: bytes) -> bytes:
    return msgspec.msgpack.encode(["impasto/1 hello", federation, device, epoch, number, profile])


def _of_forget(federation: str, device: str) -> bytes:
    return msgspec.msgpack.encode(["impasto/1 forget", federation, device])


def _of_forgotten(federation: str, device: str, key: bytes) -> bytes:
    return msgspec.msgpack.encode(["impasto/1 forgotten", federation, device, key])


def _of_key(federation: str, new: bytes) -> bytes:
    return msgspec.msgpack.encode(["impasto/1 key", federation, new])
