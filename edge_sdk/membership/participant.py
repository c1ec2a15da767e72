"""A device in one session: what its owner allows, and the greeting of the level on which federation and owner agree."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from edge_sdk.errors import PrivacyRefused
from edge_sdk.membership.plan import Train
from edge_sdk.privacy import Guarantee, level_named
from edge_sdk.wire import Greeter, Join, encode


class Participant:
    """A device in one session.

    Args:
        epoch: epoch of the session.
        greetings: the device's Join for each privacy level that its owner allows, at least one.
        greeter: signs its hellos.
        train: trains a round.
        tell: called with the name and the values of each event.
        stop: set when its owner wants to leave.
        masked_only: True if the owner allows no update to leave by itself.
        epsilon: the largest epsilon of all its answers with noise that its owner allows; 0: none.

    Attributes:
        greeting: the Join of the federation's level, once that is known.
        noise: what its answers to questions keep by their noise, once that is known; None: they have none.
    """

    def __init__(
        self,
        epoch: int,
        greetings: Sequence[Join],
        greeter: Greeter,
        train: Train,
        tell: Callable[..., None],
        stop: threading.Event,
        masked_only: bool = False,
        epsilon: float = 0.0,
    ) -> None:
        self.epoch = epoch
        self.greeter = greeter
        self.train = train
        self.tell = tell
        self.stop = stop
        self.masked_only = masked_only
        self.epsilon = epsilon
        self.noise: Guarantee | None = None
        self.greeting = greetings[0]
        self._greetings = {greeting.profile.level: greeting for greeting in greetings}
        self._agreed: str | None = None

    @property
    def chooses_alone(self) -> bool:
        """True if the federation's level is one at which the device chooses its cluster alone."""
        return self._agreed is not None and not level_named(self._agreed).leaves

    @property
    def longest(self) -> Join:
        """The Join with the most bytes."""
        return max(self._greetings.values(), key=lambda greeting: len(encode(greeting)))

    def agree(self, federation: str, level: str, *, masked: bool, noise: Guarantee | None = None) -> None:
        """Take the privacy level that the federation's signed state asks for.

        Args:
            federation: its name.
            level: the level.
            masked: True if it says that updates are summed under masks.
            noise: what it says that answers to questions keep by their noise.

        Raises:
            PrivacyRefused: the owner does not allow the level or the epsilon, or allows masked sums only.
        """
        if self.masked_only and not masked:
            raise PrivacyRefused(
                f"Federation {federation!r} asks for each update by itself, and the owner of this device allows it in "
                "masked sums only: nothing was sent. To allow it, join without masked_only=True (`impasto join` "
                "without --masked-only); its operator turns masked sums on by masked = true under [aggregation]."
            )
        if level not in self._greetings:
            raise PrivacyRefused(
                f"Federation {federation!r} asks for codes of level {level!r}, and the owner of this device "
                f"allows {' and '.join(map(repr, self._greetings))}: nothing was sent. docs/security.md says what each "
                f"level gives away. To allow it, join with privacy={level!r} (`impasto join --privacy {level}`)."
            )
        if not level_named(level).leaves and not masked:
            raise PrivacyRefused(
                f"Federation {federation!r} asks for level {level!r}, and for each update by itself, which shows the "
                "taste that this level keeps here: nothing was sent. Its operator turns masked sums on by masked = "
                "true under [aggregation]."
            )
        if level_named(level).noisy != (noise is not None):
            raise PrivacyRefused(
                f"Federation {federation!r} asks for level {level!r} {'with' if noise else 'without'} an epsilon, "
                "which cannot be: nothing was sent. Tell its operator."
            )
        if noise is not None and not noise.epsilon <= self.epsilon:
            raise PrivacyRefused(
                f"Federation {federation!r} asks for answers of epsilon {noise.epsilon:g} (delta {noise.delta:g}), and "
                f"the owner of this device allows {self.epsilon:g} at most: nothing was sent. docs/security.md says "
                f"what that gives away. To allow it, join with epsilon={noise.epsilon:g} (`impasto join --epsilon "
                f"{noise.epsilon:g}`)."
            )
        if (level, noise) == (self._agreed, self.noise):
            return
        self.greeting, self._agreed, self.noise = self._greetings[level], level, noise
        kept = {"epsilon": noise.epsilon, "delta": noise.delta} if noise else {}
        self.tell("privacy_agreed", level=level, picture_code=bool(self.greeting.profile.picture_code), **kept)
