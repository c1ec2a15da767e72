"""The owner's wish to be assisted, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from edge_sdk.errors import ConfigurationError, ImpastoError
from edge_sdk.transport import Settings
from edge_sdk.wire import Form

MOST_SECONDS = 3600.0


@dataclass(frozen=True)
class Assist:
    """The wish that a helper draws the first steps.

    Attributes:
        broker: the federation's broker, its URL or the transport's settings.
        form: what may stand for the prompt: "open" sends its token ids, which are the caption in clear; "blank" sends
            nothing of it, and the helper draws with an empty prompt.
        steps: the number of steps to ask for; "auto" chooses it by the times of both sides, and declines unless a fifth
            of the time is saved.
        seconds: after which the helper's answer is of no use, up to an hour.

    Raises:
        ConfigurationError: there is no such form, or steps or seconds make no sense.
    """

    broker: str | Settings
    form: Form
    steps: int | Literal["auto"] = "auto"
    seconds: float = 900.0

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise ConfigurationError(f"There is no form {self.form!r} of requests: choose open or blank.")
        if self.steps != "auto" and not (isinstance(self.steps, int) and self.steps >= 1):
            raise ConfigurationError(f"A helper draws 1 step or more, or auto, not {self.steps!r}.")
        if not 0 < self.seconds <= MOST_SECONDS:
            raise ConfigurationError(f"A helper's answer may take up to {MOST_SECONDS:g} s, not {self.seconds!r}.")

    @property
    def connection(self) -> Settings:
        """The settings of the connection."""
        return self.broker if isinstance(self.broker, Settings) else Settings(url=self.broker)


@dataclass(frozen=True)
class Assistance:
    """The two halves of a drawing, and who drew them.

    Attributes:
        steps: those of the drawing.
        by_helper: the first of them, as far as a helper drew them; 0 if the device drew all.
        dropped: steps that the device drew beside the helper's and did not use.
        helper: the helper's name; empty if the device drew all.
        reason: the error for which the device drew all; None if a helper helped.
    """

    steps: int
    by_helper: int = 0
    dropped: int = 0
    helper: str = ""
    reason: ImpastoError | None = None

    def __str__(self) -> str:
        if self.by_helper:
            return f"steps 1 to {self.by_helper} by {self.helper}, {self.by_helper + 1} to {self.steps} here"
        why = "" if self.reason is None else f" ({type(self.reason).__name__}: {self.reason})"
        return f"all {self.steps} steps here{why}"
