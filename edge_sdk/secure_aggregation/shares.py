"""Shares of 16-byte secrets: Shamir's scheme over GF(2^128), from pycryptodome.

The x of a share is the number of its holder among the holders, from 1; see `Graph.holders`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_sdk.errors import ShareInvalid


def split(secret: bytes, threshold: int, holders: int) -> list[bytes]:
    """Shares of a secret, 16 bytes each, for so many holders."""
    from Crypto.Protocol.SecretSharing import Shamir

    return [share for _, share in Shamir.split(threshold, holders, secret)]


def restored(
    shares: Mapping[int, bytes], threshold: int, is_right: Callable[[bytes], bool], owner: str
) -> tuple[bytes, frozenset[int]]:
    """The secret behind shares (x -> share), and the x of those that do not belong to it.

    Wrong shares do no harm as long as as many right ones as the threshold stand in a row, counted round.

    Args:
        shares: shares by their x.
        threshold: number of shares that it takes.
        is_right: tells whether a secret is the right one.
        owner: whose secret it is, for the error.

    Raises:
        ShareInvalid: there are too few shares, or too many wrong ones.
    """
    from Crypto.Protocol.SecretSharing import Shamir

    given = sorted(shares.items())
    if len(given) < threshold:
        raise ShareInvalid(f"{len(given)} shares of a secret of {owner!r} are there, and it takes {threshold}.")
    for start in range(len(given)):
        chosen = (given + given)[start : start + threshold]
        secret = Shamir.combine(chosen)
        if is_right(secret):
            break
    else:
        raise ShareInvalid(
            f"The shares of a secret of {owner!r} do not give it: {owner!r} or many of its neighbours have sent wrong "
            "ones."
        )
    if start == 0:
        return secret, frozenset()
    others = [share for share in given if share not in chosen]
    wrong = {share[0] for share in others if Shamir.combine([*chosen[1:], share]) != secret}
    return secret, frozenset(wrong)
