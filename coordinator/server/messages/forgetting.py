"""Messages of owners who ask that nothing of their device is kept."""

from __future__ import annotations

from coordinator import rounds
from coordinator.identity import Greetings
from coordinator.runner import Runner
from coordinator.server.outgoing import Outgoing
from coordinator.server.performer import Performer
from edge_sdk.wire import Forget


class Forgetting:
    """Handles Forget.

    Args:
        runner: is fed that a device is to be erased.
        performer: saves and acts first, as open actions may need the device.
        greetings: know the devices' keys.
        outgoing: tells a device what was refused.
    """

    def __init__(self, runner: Runner, performer: Performer, greetings: Greetings, outgoing: Outgoing) -> None:
        self._runner = runner
        self._performer = performer
        self._greetings = greetings
        self._outgoing = outgoing

    def forget(self, device: str, forget: Forget) -> None:
        """Erase a device that asks for it, signed by its own key. One that is not known is told that nothing is kept.

        While a store does not answer there is no answer either: the device asks again.
        """
        self._performer.settle()
        if not self._runner.settled:
            return
        if refusal := self._greetings.problem_with(device, forget):
            self._outgoing.refuse(device, refusal, about="forget")
            return
        self._greetings.erase(device, forget.key)
        self._runner.feed(rounds.Erase(device, forget.key))
