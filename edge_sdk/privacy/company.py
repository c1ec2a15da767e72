"""The company of a sum of level "local": the devices that are in it, beside those of the sum before.

Two sums about the same codes, of which one has a device that the other lacks, differ by that device's code. So the
devices of a sum are those of the sum before, or at least as many as the smallest cluster are gone, and as many have
come: then the difference is a sum of that many codes, as each slot is. The coordinator keeps to that, and each device
checks what it sees: the roster, beside that of the last sum that it has agreed to.
"""

from __future__ import annotations

from collections.abc import Set

import msgspec

from edge_sdk.errors import AttemptMismatch, RosterInvalid
from edge_sdk.privacy.questions import Question, check_follows

MOST_CLUSTERINGS = 8
"""Clusterings that a device takes part in. Many sums in changing company could be solved for single codes."""


class Answered(msgspec.Struct, frozen=True):
    """The last sum of a clustering that a device has agreed to.

    Attributes:
        question: the question; None if there was none.
        devices: the devices in the sum.
        clusterings: number of clusterings that the device has taken part in.
    """

    question: Question | None = None
    devices: frozenset[str] = frozenset()
    clusterings: int = 0

    def and_now(self, question: Question, devices: Set[str]) -> Answered:
        """Return what is to be remembered after another sum."""
        return Answered(question, frozenset(devices), self.clusterings + self._is_new(question))

    def check(self, question: Question) -> None:
        """Raise AttemptMismatch unless a question may be answered: see `check_follows`, and `MOST_CLUSTERINGS`."""
        check_follows(question, self.question)
        if self._is_new(question) and self.clusterings >= MOST_CLUSTERINGS:
            raise AttemptMismatch(
                f"Clustering {question.clustering} of start {question.epoch} would be the {self.clusterings + 1}th of "
                f"this device, which takes part in {MOST_CLUSTERINGS}: it chooses among the published centroids."
            )

    def _is_new(self, question: Question) -> bool:
        last = self.question
        return last is None or (last.epoch, last.clustering) != (question.epoch, question.clustering)


def hides(devices: Set[str], before: Set[str], smallest: int) -> bool:
    """Return True if no difference to the sum before is of fewer devices than the smallest cluster.

    Args:
        devices: the devices of a sum.
        before: those of the sum before; empty: there was none.
        smallest: least number of devices in a cluster.
    """
    gone, come = len(before - devices), len(devices - before)
    return not before or all(number == 0 or number >= smallest for number in (gone, come))


def check_company(devices: Set[str], before: Set[str], smallest: int) -> None:
    """Raise RosterInvalid unless a sum hides its devices beside the sum before, see `hides`."""
    if not hides(devices, before, smallest):
        raise RosterInvalid(
            f"{len(before - devices)} devices of the last sum are not in this one, and {len(devices - before)} others "
            f"are: the difference of the two would be of fewer than {smallest} devices, and show their codes. Nothing "
            "is sent for it."
        )
