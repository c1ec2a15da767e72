"""Order and time of the pulls of offered updates."""

from __future__ import annotations

from coordinator.transfers.queue import UploadQueue
from edge_sdk.wire.messages import Offer
from tests.coordinator.federations import offer


class Line:
    """An intake of two places, and who is there."""

    def __init__(self) -> None:
        self.intake = UploadQueue(2, patience=30.0)
        self.away: set[str] = set()
        self.unwanted: set[str] = set()

    def add(self, *devices: str) -> None:
        for device in devices:
            self.intake.add(device, offer(device, 1))

    def turn(self, now: float = 0.0) -> tuple[list[str], list[str]]:
        """The devices whose pull is stopped, and those whose pull is begun."""
        stopped = self.intake.give_up(self._wants, self._is_present, now)
        begun = []
        while found := self.intake.begin(self._wants, self._is_present, now):
            begun.append(found[0])
        return [device for device, _ in stopped], begun

    def end(self, device: str, variant: int = 0) -> Offer | None:
        return self.intake.end(device, offer(device, 1, variant).manifest.sha256)

    def forget(self) -> None:
        self.intake.forget(self._wants)

    def _wants(self, device: str, _: Offer) -> bool:
        return device not in self.unwanted

    def _is_present(self, device: str) -> bool:
        return device not in self.away


def test_first_come_first_served_in_so_many_places() -> None:
    line = Line()
    line.add("a", "b", "c", "d")
    assert line.turn() == ([], ["a", "b"])
    assert line.end("a") == offer("a", 1)
    assert line.turn() == ([], ["c"])
    assert line.end("a") is None


def test_repeated_offers_wait_once_and_are_not_pulled_twice() -> None:
    line = Line()
    line.add("a", "b", "c", "c", "c", "a")
    assert line.turn() == ([], ["a", "b"])
    line.add("a")
    line.end("a")
    assert line.turn() == ([], ["c"])
    line.end("b")
    line.end("c")
    assert line.turn() == ([], [])


def test_the_latest_offer_of_a_device_wins() -> None:
    line = Line()
    line.add("a")
    line.turn()
    line.intake.add("a", offer("a", 1, variant=1))
    assert line.turn() == (["a"], ["a"])
    assert line.end("a") is None
    assert line.end("a", variant=1) == offer("a", 1, variant=1)


def test_devices_that_vanish_block_nobody() -> None:
    line = Line()
    line.add("a", "b")
    line.turn()
    line.away = {"a", "b"}
    assert line.turn() == ([], []), "nobody else waits: what has come is kept"
    line.add("c")
    assert line.turn() == (["a"], ["c"])
    line.end("c")
    assert line.turn() == ([], [])
    line.away = set()
    assert line.turn() == ([], ["a"])


def test_a_silent_device_gives_its_place_up_and_waits_at_the_end_of_the_line() -> None:
    line = Line()
    line.add("a", "b")
    line.turn(now=0.0)
    line.intake.progress("b", 1, now=20.0)
    line.intake.progress("a", 0, now=20.0)
    line.add("c", "d")
    assert line.turn(now=29.0) == ([], [])
    assert line.turn(now=30.0) == (["a"], ["c"])
    assert line.turn(now=50.0) == (["b"], ["d"])
    line.end("c")
    line.end("d")
    assert line.turn(now=51.0) == ([], ["a", "b"])


def test_what_is_not_wanted_any_more_is_forgotten() -> None:
    line = Line()
    line.add("a", "b", "c")
    line.turn()
    line.unwanted = {"a", "c"}
    assert line.turn() == (["a"], [])
    line.forget()
    line.unwanted = set()
    assert line.turn() == ([], [])
    assert line.intake.counts == {"pulled": 1, "waiting": 0}


def test_those_that_are_not_wanted_block_nobody() -> None:
    line = Line()
    line.add("a", "b")
    line.turn()
    line.add("c", "d")
    line.unwanted, line.away = {"c"}, {"a"}
    assert line.turn() == (["a"], ["d"])


def test_a_device_has_one_place_also_while_its_update_is_being_stored() -> None:
    line = Line()
    line.add("a")
    line.turn()
    line.intake.hold("a")
    line.intake.add("a", offer("a", 1, variant=1))
    assert line.turn() == ([], [])
    assert line.end("a") == offer("a", 1)
    assert line.turn() == ([], ["a"])
    assert line.end("a", variant=1) == offer("a", 1, variant=1)


def test_what_is_being_stored_keeps_its_place() -> None:
    line = Line()
    line.add("a", "b")
    line.turn()
    line.intake.hold("a")
    line.away = {"a"}
    line.add("c", "d")
    line.intake.add("a", offer("a", 1, variant=1))
    line.unwanted = {"a"}
    assert line.turn(now=1000.0) == (["b"], ["c"])
    line.unwanted = set()
    assert line.end("a") == offer("a", 1)
    assert line.turn(now=1000.0) == ([], ["d"])
