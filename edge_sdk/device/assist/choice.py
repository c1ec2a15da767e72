"""The number of steps to ask for: as many as a helper saves time with. Pure.

A device that goes on by itself needs left * own seconds more. With a helper that draws k steps it needs

    wait + k helper + link        until the state is here, while the device draws steps that it drops;
    + own                         as the device finishes the step at which the state arrives;
    + (steps - k) own             for the rest.

The difference grows with k if the helper is faster, so that the largest k that the drawing allows is the best.
"""

from __future__ import annotations

from dataclasses import dataclass

LEAST_SAVED = 0.2  # of the time that the device alone takes for the whole drawing
# Share of the signal up to which a helper's steps decide neither the subject nor the style of a picture, as measured by
# benchmarks.assist.
_LATEST = 0.01


def latest(*, knows_all: bool) -> float:
    """The share of the signal in the variance up to which a helper may draw.

    knows_all: True if the helper has the prompt and all adapters that the device draws with.
    """
    return 1.0 if knows_all else _LATEST


@dataclass(frozen=True)
class Times:
    """Measured times of both sides, in seconds.

    Attributes:
        steps: of the whole drawing.
        done: those that the device has done by itself.
        own: a step of the device.
        helper: a step of the helper.
        link: from a request to its answer, without the drawing itself.
    """

    steps: int
    done: int
    own: float
    helper: float
    link: float

    def saved(self, k: int, wait: float = 0.0) -> float:
        """Share of the whole time alone that k steps of the helper save, after a wait in its queue; may be negative."""
        alone = (self.steps - self.done) * self.own
        assisted = wait + k * self.helper + self.link + self.own + (self.steps - k) * self.own
        return (alone - assisted) / (self.steps * self.own) if self.own > 0 else 0.0


def choose(times: Times, most: int) -> int | None:
    """The number of steps to ask for, at most `most`; None if too little would be saved."""
    return most if most >= 1 and times.saved(most) >= LEAST_SAVED else None
