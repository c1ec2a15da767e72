"""Degree of the graph and threshold of the shares for a masked sum: Bell et al., "Secure Single-Server Aggregation with
(Poly)Logarithmic Overhead", CCS 2020, sections 3 and 4.

Of n devices, c = floor(n colluding) pool what they see with the coordinator, and d = floor(n dropping) are lost on the
way. Each device masks its vector with its k neighbours in a Harary graph over a random ring: those up to k/2 places
away on either side. Its neighbours hold shares of its two secrets, t of which restore one. Three things must not
happen:

- The devices that are left fall apart into groups, whose sums would come out separately. The ring breaks where k/2
  devices in a row are lost or collude, and falls apart where it breaks in two places. Union bound over the pairs of
  places: n (n - k - 1) / 2 C(n - k, c + d - k) / C(n, c + d) < 2^-(security + 1).
- Colluding neighbours alone restore a secret: n P[H(n - 1, c, k) >= t] <= 2^-(security + 1), where H(N, m, k) counts
  the marked ones among k that are drawn from N, of which m are marked.
- A secret is lost with those who hold it: n P[H(n - 1, n - d - 1, k) < t] <= 2^-failure.

A coordinator that lies could tell some neighbours of a device that it has dropped out, and others that it has not, and
restore both secrets, as t is below half of the neighbours. So devices sign who is in the sum, and give their shares
only if a quorum of floor((n + c)/2) + 1 devices has signed the same: two quorums have a device in common that does not
collude, and signs once.

Below 50 devices everybody is everybody's neighbour, and t is just above the half: floor(n/2) + 1. Probabilities are
compared as integers, so that every platform, and every language with large integers, finds the same. No I/O here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from edge_sdk.errors import ConfigurationError

COMPLETE_BELOW = 50
"""Number of devices from which the graph is not complete."""
FEWEST_DEVICES = 3
"""Devices of the smallest sum: of two, each would know the other's vector."""
MOST_DEVICES = 1024
"""Devices of the largest sum, which 10 bits of head room allow. More of them are several sums, see `shards`."""


class Parameters(NamedTuple):
    """Parameters of a masked sum.

    Attributes:
        neighbours: k, the neighbours of each device; one less than all devices in a complete graph.
        threshold: t, the number of shares that restore a secret.
    """

    neighbours: int
    threshold: int


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Assumptions under which a masked sum hides its parts.

    Attributes:
        colluding: share of the devices that pool what they see with the coordinator.
        dropping: share of the devices that may be lost on the way; a sum with more losses is abandoned.
        security_bits: the chance of a leak is at most 2^-security_bits.
        failure_bits: the chance that a sum with no more losses fails is at most 2^-failure_bits.
    """

    colluding: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    dropping: Annotated[float, Meta(ge=0, lt=1)] = 0.3
    security_bits: Annotated[int, Meta(ge=1, le=128)] = 40
    failure_bits: Annotated[int, Meta(ge=1, le=128)] = 20

    def parameters(self, devices: int) -> Parameters:
        """The parameters for so many devices.

        Raises:
            ConfigurationError: as `parameters`, or there can be fewer devices left than a quorum.
        """
        given = parameters(devices, self.colluding, self.dropping, self.security_bits, self.failure_bits)
        left = devices - share_of(devices, self.dropping)
        if self.quorum(devices) > left:
            raise _impossible(devices, self.colluding, self.dropping)
        return given

    def suffices(self, devices: int, given: Parameters) -> bool:
        """True if these parameters keep all bounds for so many devices. Devices check so what they are given."""
        if given.neighbours == devices - 1:
            return _complete_suffices(self, devices, given.threshold)
        if devices < COMPLETE_BELOW or not 2 <= given.neighbours < devices - 1 or given.neighbours % 2:
            return False
        least = _least_threshold(self, devices, given.neighbours)
        return (
            _stays_connected(self, devices, given.neighbours)
            and max(least, 2) <= given.threshold <= given.neighbours
            and _keeps_secrets(self, devices, given.neighbours, given.threshold)
        )

    def quorum(self, devices: int) -> int:
        """The number of devices that have to sign who is in the sum: more than half, and half of the colluding ones."""
        return (devices + share_of(devices, self.colluding)) // 2 + 1

    def fewest(self, devices: int, given: Parameters) -> int:
        """The fewest devices that a sum of so many at its beginning may come down to.

        In a complete graph a quorum; in others all but the share that may be lost, as the graph may fall apart beyond
        it.
        """
        if given.neighbours == devices - 1:
            return max(FEWEST_DEVICES, given.threshold, self.quorum(devices))
        return max(devices - share_of(devices, self.dropping), self.quorum(devices))

    def honest(self, devices: int, left: int) -> int:
        """The devices, of `left` of so many at a sum's beginning, that do not collude; one at least."""
        return max(1, left - share_of(devices, self.colluding))


def parameters(
    devices: int,
    colluding: float = 0.1,
    dropping: float = 0.3,
    security_bits: int = 40,
    failure_bits: int = 20,
) -> Parameters:
    """The sparsest graph, and its smallest threshold, that keep all bounds; see `Policy` for the arguments.

    Raises:
        ConfigurationError: there are too few or too many devices, or no graph keeps the bounds.
    """
    if not FEWEST_DEVICES <= devices <= 1_000_000:
        raise ConfigurationError(
            f"A masked sum of {devices} devices: it takes {FEWEST_DEVICES} at least, as each of two would know the "
            "other's part."
        )
    policy = Policy(colluding=colluding, dropping=dropping, security_bits=security_bits, failure_bits=failure_bits)
    if devices >= COMPLETE_BELOW:
        for neighbours in range(2, devices - 1, 2):
            if _stays_connected(policy, devices, neighbours):
                threshold = max(_least_threshold(policy, devices, neighbours), 2)
                if threshold <= neighbours and _keeps_secrets(policy, devices, neighbours, threshold):
                    return Parameters(neighbours, threshold)
    threshold = devices // 2 + 1
    if not _complete_suffices(policy, devices, threshold):
        raise _impossible(devices, colluding, dropping)
    return Parameters(devices - 1, threshold)


def shards(devices: int, largest: int = MOST_DEVICES) -> list[int]:
    """Sizes of the sums that so many devices are divided into: as few as possible, as equal as possible.

    largest: devices of the largest sum, for a reason other than the head room.
    """
    count = max(1, -(-devices // largest))
    return [devices // count + (number < devices % count) for number in range(count)]


def share_of(devices: int, share: float) -> int:
    """A share of the devices, rounded down; a share of .3 of 10 devices is 3, whatever binary numbers make of .3."""
    return math.floor(devices * share + 1e-9)


def _impossible(devices: int, colluding: float, dropping: float) -> ConfigurationError:
    return ConfigurationError(
        f"No masked sum of {devices} devices is both safe from {share_of(devices, colluding)} that collude and sure to "
        f"survive the loss of {share_of(devices, dropping)}: lower the share that may collude ({colluding:g}) or that "
        f"may drop out ({dropping:g})."
    )


def _complete_suffices(policy: Policy, devices: int, threshold: int) -> bool:
    """True if colluding devices cannot restore a secret, and so many devices are left that the others can."""
    left = devices - share_of(devices, policy.dropping)
    return max(devices // 2 + 1, share_of(devices, policy.colluding) + 1) <= threshold <= left


def _stays_connected(policy: Policy, devices: int, neighbours: int) -> bool:
    lost = share_of(devices, policy.colluding) + share_of(devices, policy.dropping)
    if neighbours > lost:  # it takes as many to break the ring in two places
        return True
    if lost >= devices:
        return False
    places = devices * (devices - neighbours - 1)  # twice as many as pairs
    broken = places * math.comb(devices - neighbours, lost - neighbours)
    return broken << policy.security_bits + 1 < 2 * math.comb(devices, lost)


def _least_threshold(policy: Policy, devices: int, neighbours: int) -> int:
    """The smallest threshold that colluding neighbours do not reach, by more than one chance in the bound's."""
    among = math.comb(devices - 1, neighbours)
    counts = list(_counts(devices - 1, share_of(devices, policy.colluding), neighbours))
    beyond, threshold = 0, len(counts)
    while threshold > 1:
        beyond += counts[threshold - 1]
        if devices * beyond << policy.security_bits + 1 > among:
            break
        threshold -= 1
    return threshold


def _keeps_secrets(policy: Policy, devices: int, neighbours: int, threshold: int) -> bool:
    left = devices - share_of(devices, policy.dropping) - 1
    short = 0
    for number, count in enumerate(_counts(devices - 1, left, neighbours)):
        if number == threshold:
            break
        short += count
    return devices * short << policy.failure_bits <= math.comb(devices - 1, neighbours)


def _counts(among: int, marked: int, drawn: int) -> Iterator[int]:
    """Ways to draw so many with 0, 1, 2, ... marked ones among them, up to as many as there can be."""
    plain = among - marked
    first = max(0, drawn - plain)
    yield from (0 for _ in range(first))
    ways = math.comb(marked, first) * math.comb(plain, drawn - first)
    for number in range(first, min(marked, drawn) + 1):
        yield ways
        ways = ways * (marked - number) * (drawn - number) // ((number + 1) * (plain - drawn + number + 1))
