"""The privacy budget of level "local+dp": what answers with noise may tell of a device, and what they have told.

Noise is accounted for by Gaussian differential privacy (Dong, Roth, Su 2022): a sum is mu-GDP if its noise has 1 / mu
times the largest length of one device's answer as standard deviation, and answers compose by the sum of their mu^2. A
device compares what it is with nothing at all: its answers with zeros in their place.
"""

from __future__ import annotations

import functools
import math
from typing import Annotated

import msgspec
from msgspec import Meta

from edge_sdk.errors import PrivacyBudgetSpent

SMALLEST_EPSILON, LARGEST_EPSILON = 1.0, 8.0
LARGEST_DELTA = 1e-4
_HALVINGS = 100
# Of mu^2, by which sums of shares may seem to be more than the whole.
_ROUNDING = 1e-9


class Guarantee(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The (epsilon, delta) that all answers of a device to the questions of one clustering keep together.

    Attributes:
        epsilon: smaller tells less: no event becomes more than exp(epsilon) times as likely by a device's answers,
        delta: but for a probability of delta.
    """

    epsilon: Annotated[float, Meta(ge=SMALLEST_EPSILON, le=LARGEST_EPSILON)]
    delta: Annotated[float, Meta(gt=0, le=LARGEST_DELTA)]

    @property
    def mu(self) -> float:
        """The mu of Gaussian differential privacy that gives this guarantee, rounded down."""
        return gaussian_mu(self.epsilon, self.delta)


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """The budget that a device has spent in a federation.

    Attributes:
        squares: sum of mu^2 of all answers that may have been summed.
        answers: number of these.
        delta: the delta that `epsilon` goes with: that of the last answer.
    """

    squares: float = 0.0
    answers: int = 0
    delta: float = 0.0

    @property
    def epsilon(self) -> float:
        """The epsilon of all answers together."""
        return gaussian_epsilon(math.sqrt(self.squares), self.delta) if self.squares else 0.0

    def check(self, cost: float, allowed: float, delta: float) -> None:
        """Raise PrivacyBudgetSpent unless an answer of this mu^2 keeps within the owner's epsilon.

        Args:
            cost: mu^2 of the answer.
            allowed: the largest epsilon that the owner allows in all.
            delta: the federation's.
        """
        if self.squares + cost > gaussian_mu(allowed, delta) ** 2 + _ROUNDING:
            raise PrivacyBudgetSpent(
                f"{self.answers} answers to questions have spent epsilon {self.epsilon:.3g} of the {allowed:g} that "
                "the owner of this device allows in this federation, and another one would be too much: it is not "
                "given. The device chooses among the published clusters. To allow more, join with a larger epsilon "
                "(`impasto join --epsilon`); what was told stays told."
            )

    def and_now(self, cost: float, delta: float) -> Spent:
        """Return what is spent after another answer of this mu^2."""
        return Spent(squares=self.squares + cost, answers=self.answers + 1, delta=delta)


@functools.lru_cache(maxsize=64)
def gaussian_mu(epsilon: float, delta: float) -> float:
    """Return the largest mu for which mu-GDP gives (epsilon, delta)-DP (Dong, Roth, Su 2022, corollary 2.13)."""
    low, high = 0.0, 2.0 * epsilon + 2.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _delta_of(epsilon, middle) <= delta else (low, middle)
    return low


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the smallest epsilon for which mu-GDP gives (epsilon, delta)-DP."""
    low, high = 0.0, 1.0
    while _delta_of(high, mu) > delta:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _delta_of(middle, mu) <= delta else (middle, high)
    return high


def _delta_of(epsilon: float, mu: float) -> float:
    """Return Phi(-epsilon / mu + mu / 2) - exp(epsilon) Phi(-epsilon / mu - mu / 2)."""
    if mu <= 0:
        return 0.0
    return _normal(-epsilon / mu + mu / 2) - math.exp(epsilon) * _normal(-epsilon / mu - mu / 2)


def _normal(value: float) -> float:
    return math.erfc(-value / math.sqrt(2)) / 2
