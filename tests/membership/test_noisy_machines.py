"""The same two machines at level "local+dp": answers with noise, in any company, as far as each owner's budget goes.

No answer leaves that is not paid for before, whoever dies when; none is paid for twice, and nobody tells more than its
owner allows. Sums may lose devices, and the coordinator knows how much noise is in each.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import ClassVar

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings
from hypothesis.stateful import invariant
from msgspec.structs import replace

from coordinator import rounds as theirs
from coordinator import secure_aggregation as server
from coordinator.methods.clustering import by_noisy_sums
from edge_sdk.adapter import Share
from edge_sdk.membership import rounds as ours
from edge_sdk.membership.rounds import actions as act
from edge_sdk.privacy import (
    GRAIN,
    LARGEST_DELTA,
    LARGEST_EPSILON,
    SMALLEST_EPSILON,
    Guarantee,
    Question,
    Spent,
    bounded_answer,
    cost,
    noisy_answer,
    part_of_noise,
    read_question,
)
from edge_sdk.secure_aggregation import RANDOM_BYTES, terms_of, to_bytes
from edge_sdk.wire import ClusterStart, DeviceProfile
from tests.coordinator.federations import profile, rules
from tests.membership.machines import FEDERATION, Coordinator, Device
from tests.membership.test_local_machines import (
    NAMES,
    SLOT,
    SMALLEST,
    WORDS,
    LocalCoordinator,
    LocalDevice,
    LocalLine,
    LocalWorld,
    code_of,
    inquired,
)
from tests.membership.test_masked_machines import MASKING, Patient

PROFILE = profile(prompt_code=b"", level="local+dp")
NOISE = Guarantee(epsilon=1.0, delta=1e-5)
ALLOWED = 8.0  # some forty clusterings of epsilon 1


@dataclass
class NoisyLine(LocalLine):
    """Answers that have left, by device: a masked vector -> its price."""

    prices: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass
class NoisyDevice(LocalDevice):
    """A device that keeps what it has spent, as its journal does."""

    line: NoisyLine = field(default_factory=NoisyLine)
    spent: Spent = field(default_factory=Spent)
    allowed: float = ALLOWED

    @property
    def profile(self) -> DeviceProfile:
        return PROFILE

    def feed(self, event: ours.Event, now: float) -> None:
        if isinstance(event, ours.Opened):
            self.rules = replace(self.rules, epsilon=self.allowed)
            self.state = replace(self.state, spent=msgspec.convert(msgspec.to_builtins(self.spent), Spent))
        super().feed(event, now)

    def _carry_out(self, action: ours.Action) -> ours.Event | None:
        match action:
            case act.KeepSum(spent=spent):
                if spent is not None:
                    self.spent = spent
            case act.Draw(plan, ClusterStart() as start):
                self.drawn += 1
                drawn = random.Random(f"{self.name} {self.drawn}").randbytes(RANDOM_BYTES)
                return ours.Drawn(plan, terms_of(FEDERATION, start, read_question(start.question).words), drawn)
            case act.MakeVector(plan, ClusterStart(noise=noise) as start):
                assert noise == NOISE
                question = read_question(start.question)
                below = random.Random(f"{self.name} {self.drawn}").randrange
                variance = part_of_noise(question, noise, self.state.sum.honest)
                made = to_bytes(noisy_answer(question, code_of(self.name), variance, below))
                self.line.plain[self.name] = made
                return ours.VectorMade(plan, made)
            case act.HandInVector(offer=offer) if offer.round == 0:
                assert isinstance(self.state.step, ClusterStart)
                price = cost(read_question(self.state.step.question), NOISE)
                self.line.prices.setdefault(self.name, {})[offer.manifest.sha256] = price
        return super()._carry_out(action)

    def _note_company(self) -> None:
        """Any company will do."""


@dataclass
class NoisyCoordinator(LocalCoordinator):
    """A coordinator that finds clusters by sums with noise."""

    line: NoisyLine = field(default_factory=NoisyLine)
    profile: DeviceProfile = PROFILE

    def _carry_out(self, action: theirs.Action) -> list[theirs.Event]:
        if isinstance(action, theirs.Cluster):
            plan = by_noisy_sums.Plan(epoch=action.epoch, clustering=action.clustering, clusters=2)
            return [inquired(by_noisy_sums.begin(plan))]
        return super()._carry_out(action)

    def _after(self, action: theirs.Aggregate, masked: server.State, total: npt.NDArray[np.uint32]) -> theirs.Event:
        if not action.round.question:
            return super()._after(action, masked, total)
        question = read_question(action.round.question)
        variance = len(masked.survivors) * part_of_noise(
            question, NOISE, masked.terms.honest(len(masked.roster), masked.given)
        )
        # The noise in the sum is what the coordinator takes it for.
        exact = np.sum([bounded_answer(question, code_of(name)) for name in masked.summed], axis=0)
        noise = (total.view(np.int32) - exact) / variance**0.5
        assert abs(noise).max() < 6
        state = msgspec.msgpack.decode(action.asking, type=by_noisy_sums.State)
        found = by_noisy_sums.step(state, by_noisy_sums.Sum(len(masked.survivors), total, variance))
        if isinstance(found, by_noisy_sums.State):
            return inquired(found)
        return theirs.Grouped(np.array(found.centroids, "<i2").tobytes(), {"counts": list(found.counts)})


class NoisyWorld(LocalWorld):
    """Eight devices, two of which the sum of a question may lose."""

    def make_coordinator(self) -> Coordinator:
        self.line = NoisyLine()
        given = rules(
            min_devices=8, rounds=3, root_rounds=0, quorum=0.75, masking=MASKING, words={Share.BOTH: WORDS},
            slot_words={Share.BOTH: SLOT}, smallest=SMALLEST, privacy="local+dp", max_update=1 << 20,
            name=FEDERATION, patience=30.0, noise=NOISE, **self.times,
        )  # fmt: skip
        return NoisyCoordinator(
            rules=given,
            say=lambda device, packet: self.down.append((device, packet)),
            show=self.retain,
            line=self.line,  # type: ignore[arg-type]
        )

    def device(self, name: str) -> Device:
        return NoisyDevice(name=name, say=lambda packet: self.up.append((name, packet)), line=self.line)  # type: ignore[arg-type]

    @invariant()
    def no_two_sums_show_a_code(self) -> None:
        """Noise hides codes; the budget limits how often."""
        for name, one in self.devices.items():
            assert isinstance(one, NoisyDevice)
            prices = one.line.prices.get(name, {})
            assert sum(prices.values()) <= one.spent.squares + 1e-9, "an answer left before it was paid for"
            assert len(prices) <= one.spent.answers
            assert one.spent.squares <= Guarantee(epsilon=ALLOWED, delta=NOISE.delta).mu ** 2 + 1e-9


class PatientNoisyWorld(Patient, NoisyWorld):
    """Nobody is given up: one clustering, in which each answer is paid for once."""

    def teardown(self) -> None:
        super().teardown()
        assert self.coordinator.state.alone.clusterings == 1
        for one in self.devices.values():
            assert isinstance(one, NoisyDevice)
            assert (one.spent.answers, one.spent.epsilon) == (4, pytest.approx(1.0))


class Poor(Patient, NoisyWorld):
    """One owner allows less than all questions take: its device stops answering, and chooses among the clusters."""

    poor: ClassVar[str] = NAMES[0]

    def device(self, name: str) -> Device:
        made = super().device(name)
        assert isinstance(made, NoisyDevice)
        if name == self.poor:
            made.allowed = 0.5
        return made

    def make_coordinator(self) -> Coordinator:
        made = super().make_coordinator()
        made.rules = replace(made.rules, patience=1.0)
        return made

    def teardown(self) -> None:
        super().teardown()
        one = self.devices[self.poor]
        assert isinstance(one, NoisyDevice)
        assert one.spent.answers == 1, "the mean's share was left"
        assert one.spent.epsilon <= 0.5
        assert one.state.cluster is not None


def test_a_grain_is_fine_beside_the_noise() -> None:
    """Each device's part alone is so wide that their sum is a discrete Gaussian's, and sums fit into 32 bits."""
    centre = bytes(32)
    spread = Question(epoch=1, clustering=1, number=2, kind="spread", around=centre)
    mean = Question(epoch=1, clustering=1, number=1, kind="places", sizes=(1,), centroids=centre, slots=bytes(1))
    least = part_of_noise(spread, Guarantee(epsilon=LARGEST_EPSILON, delta=LARGEST_DELTA), 1024)
    assert least > 500**2
    most = 1024 / 300 * part_of_noise(mean, Guarantee(epsilon=SMALLEST_EPSILON, delta=1e-12), 1) * 1.0
    assert 1024 * GRAIN + 12 * most**0.5 < 2**31


SETTINGS = settings(max_examples=3, stateful_step_count=20, deadline=None)
TestNoisyWorld = NoisyWorld.TestCase
TestNoisyWorld.settings = SETTINGS
TestPatientNoisyWorld = PatientNoisyWorld.TestCase
TestPatientNoisyWorld.settings = SETTINGS
TestPoor = Poor.TestCase
TestPoor.settings = settings(max_examples=1, stateful_step_count=1, deadline=None)
