"""Signatures of assisted drawing: a device signs what it asks for, a helper what it has drawn.

The coordinator's key vouches for a helper's: a device that has joined trusts the helpers of its federation, and no
others. Each signature is over one msgpack array, see docs/assist.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from edge_sdk.errors import HelperUntrusted, SignatureInvalid
from edge_sdk.wire.assist.messages import Ask, Cancel, Drawing, Drawn, Form, HelperState, encode
from edge_sdk.wire.messages import Manifest
from edge_sdk.wire.signing import Signer, signed_by

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_UNSIGNED = bytes(64)


class Asker:
    """A device's private key, which signs its requests to one start of a helper.

    Args:
        private: 32 bytes, the key that signs its hellos.
        federation, device: the names.
        helper, helper_key: name and key of the helper's state; a helper has a new key at every start.
    """

    def __init__(self, private: bytes, federation: str, device: str, helper: str, helper_key: bytes) -> None:
        self._key = _private(private)
        self._to = federation, helper, helper_key, device

    def ask(self, drawing: Drawing) -> Ask:
        """The signed request."""
        data = encode(drawing)
        return Ask(drawing=data, signature=self._key.sign(_of_ask(self._to, data)))

    def cancel(self, request: str) -> Cancel:
        """The signed end of a request."""
        return Cancel(request=request, signature=self._key.sign(_of_cancel(self._to, request)))


class HelperSigner:
    """A helper's private key, for which the coordinator vouches.

    Args:
        private: 32 bytes, as `new_key` makes them.
        coordinator: the coordinator's key; it signs once, here, and is not kept.
    """

    def __init__(self, private: bytes, federation: str, helper: str, coordinator: Signer) -> None:
        self._key = _private(private)
        self._federation, self._helper = federation, helper
        self._public = self._key.public_key().public_bytes_raw()
        self._voucher = coordinator.voucher(helper, self._public)

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes: devices sign their requests for it."""
        return self._public

    def drawn(self, device: str, request: str, manifest: Manifest, seconds: float) -> Drawn:
        """The signed answer to a device's request."""
        content = _of_drawn((self._federation, self._helper, device), request, manifest)
        return Drawn(request=request, manifest=manifest, seconds=seconds, signature=self._key.sign(content))

    def state(
        self,
        *,
        online: bool,
        epoch: int,
        base_id: str,
        variant: str,
        schedule: str,
        forms: Sequence[Form],
        largest: int,
        seconds: float,
    ) -> HelperState:
        """The signed state of this helper; the arguments are the fields of `HelperState`."""
        state = HelperState(
            online=online, epoch=epoch, federation=self._federation, helper=self._helper, base_id=base_id,
            variant=variant, schedule=schedule, forms=list(forms), largest=largest, seconds=seconds, key=self._public,
            voucher=self._voucher, signature=_UNSIGNED,
        )  # fmt: skip
        return replace(state, signature=self._key.sign(_of_state(state)))


def asks(ask: Ask, key: bytes, federation: str, helper: str, helper_key: bytes, device: str) -> bool:
    """True if a request to the helper with this name and key is signed by the device with this public key."""
    content = _of_ask((federation, helper, helper_key, device), ask.drawing)
    return len(key) == 32 and signed_by(key, ask.signature, content)


def cancels(cancel: Cancel, key: bytes, federation: str, helper: str, helper_key: bytes, device: str) -> bool:
    """True if a Cancel to the helper with this name and key is signed by the device with this public key."""
    content = _of_cancel((federation, helper, helper_key, device), cancel.request)
    return len(key) == 32 and signed_by(key, cancel.signature, content)


def check_helper(state: HelperState, coordinator: bytes, federation: str, helper: str) -> None:
    """Check that the coordinator with this public key vouches for a helper, and that the helper has signed its state.

    Raises:
        HelperUntrusted: it does not, or the state is not signed.
    """
    vouched = (state.federation, state.helper) == (federation, helper) and signed_by(
        coordinator, state.voucher, Signer.of_voucher(federation, helper, state.key)
    )
    if not vouched or not signed_by(state.key, state.signature, _of_state(state)):
        raise HelperUntrusted(
            f"The coordinator of {federation!r} that this device trusts does not vouch for helper {helper!r}: nothing "
            "is sent to it. If the coordinator has a new key, start the helper again, and let the device join once."
        )


def check_drawn(drawn: Drawn, state: HelperState, device: str) -> None:
    """Check that an answer for this device is signed by the helper with this state.

    Raises:
        SignatureInvalid: it is not.
    """
    content = _of_drawn((state.federation, state.helper, device), drawn.request, drawn.manifest)
    if not signed_by(state.key, drawn.signature, content):
        raise SignatureInvalid(
            f"An answer is not signed for {device!r} by helper {state.helper!r}: nothing comes of it. Somebody else "
            "can write on this device's topics; tell the operator of the broker."
        )


def _private(private: bytes) -> Ed25519PrivateKey:
    # cryptography is imported where it is used, so that a device that only draws never waits for it.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(private)


def _of_ask(to: tuple[str, str, bytes, str], drawing: bytes) -> bytes:
    return msgspec.msgpack.encode(["impasto/1 ask", *to, drawing])


def _of_cancel(to: tuple[str, str, bytes, str], request: str) -> bytes:
    return msgspec.msgpack.encode(["impasto/1 cancel", *to, request])


def _of_drawn(to: tuple[str, str, str], request: str, manifest: Manifest) -> bytes:
    return msgspec.msgpack.encode(["impasto/1 drawn", *to, request, manifest.sha256, manifest.size])


def _of_state(state: HelperState) -> bytes:
    facts = [
        state.federation, state.helper, state.epoch, state.online, state.base_id, state.variant, state.schedule,
        state.forms, state.largest, state.seconds, state.key,
    ]  # fmt: skip
    return msgspec.msgpack.encode(["impasto/1 helper state", *facts])
