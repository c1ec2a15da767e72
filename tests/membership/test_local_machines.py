"""The same two machines at level "local": questions, counts and updates, whoever dies when.

No two sums of answers of one clustering after the other differ by fewer devices than the smallest cluster, the sums are
exact, each device's update is in its own cluster's slot, and nobody but the device knows which that is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import msgspec
import numpy as np
import numpy.typing as npt
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule
from msgspec.structs import replace

from coordinator import rounds as theirs
from coordinator import secure_aggregation as server
from coordinator.methods.clustering.by_sums import State, begin, counts, merged, step
from coordinator.methods.clustering.by_sums.machine import Plan
from edge_sdk.adapter import Share
from edge_sdk.membership import rounds as ours
from edge_sdk.membership.rounds import actions as act
from edge_sdk.privacy import (
    MOST_CLUSTERINGS,
    Answered,
    answer,
    counts_question,
    hides,
    nearest_centroid,
    places_of,
    read_question,
)
from edge_sdk.secure_aggregation import (
    RANDOM_BYTES,
    UnmaskAnswer,
    from_bytes,
    is_count,
    slots_of,
    terms_of,
    to_bytes,
)
from edge_sdk.wire import CENTROID_BYTES, ClusterStart, DeviceProfile, RoundStart, make_manifest
from tests.coordinator.federations import manifest, profile, rules
from tests.membership.machines import FEDERATION, Coordinator, Device
from tests.membership.test_masked_machines import (
    MASKING,
    Line,
    MaskedCoordinator,
    MaskedDevice,
    MaskedWorld,
    Patient,
)

NAMES = ("a1", "b1", "a2", "b2", "a3", "b3", "a4", "b4")
SMALLEST = 3
WORDS, SLOT = 6, 3
PROFILE = profile(prompt_code=b"", level="local")


def code_of(name: str) -> bytes:
    """Two tastes, by the first letter."""
    own = np.random.default_rng(ord(name[1])).integers(-1, 2, 16)
    return (own + (4 if name[0] == "a" else -4)).astype(np.int8).tobytes()


def vector_of(name: str, start: RoundStart | ClusterStart) -> bytes:
    """The plain vector of a device: an answer, or random words in its own slot."""
    if isinstance(start, ClusterStart):
        return to_bytes(answer(read_question(start.question), code_of(name)))
    if is_count(start):
        return to_bytes(answer(counts_question(start.centroids), code_of(name)))
    words = np.zeros(WORDS + (slots_of(start) - 1) * SLOT, np.uint32)
    own = start.slots[nearest_centroid(code_of(name), places_of(start.centroids))]
    seed = f"{name}/{start.round}".encode()
    first = WORDS - SLOT + own * SLOT
    words[first : first + SLOT] = np.frombuffer(hashlib.shake_256(seed).digest(4 * SLOT), "<u4")
    return to_bytes(words)


@dataclass
class LocalLine(Line):
    """Vectors that the line has seen, and the companies of the sums that devices have helped to unmask."""

    plain: dict[str, bytes] = field(default_factory=dict)  # the last plain vector of each device
    masked: dict[str, bytes] = field(default_factory=dict)  # masked vectors by their hashes
    companies: dict[str, list[frozenset[str]]] = field(default_factory=dict)  # of answers to questions, by device


@dataclass
class LocalDevice(MaskedDevice):
    """A device that keeps the last sum of a clustering that it has agreed to, as its journal does."""

    line: LocalLine = field(default_factory=LocalLine)
    answered: Answered = field(default_factory=Answered)

    @property
    def profile(self) -> DeviceProfile:
        return PROFILE

    def feed(self, event: ours.Event, now: float) -> None:
        if isinstance(event, ours.Opened):
            self.rules = replace(self.rules, code=code_of(self.name))
            kept = msgspec.msgpack.decode(msgspec.msgpack.encode(self.answered), type=Answered)
            self.state = replace(self.state, answered_last=kept)
        super().feed(event, now)

    def _carry_out(self, action: ours.Action) -> ours.Event | None:
        match action:
            case act.KeepSum(answered=answered):
                if answered is not None:
                    self.answered = answered
                return super()._carry_out(action)
            case act.Draw(plan, start):
                assert isinstance(start, ClusterStart) or (self.outbox is not None and self.outbox.plan == plan)
                self.drawn += 1
                random = hashlib.shake_256(f"{self.name} {self.drawn}".encode()).digest(RANDOM_BYTES)
                words = len(vector_of(self.name, start)) // 4
                return ours.Drawn(plan, terms_of(FEDERATION, start, words), random)
            case act.MakeVector(plan, start):
                made = vector_of(self.name, start)
                self.line.plain[self.name] = made
                return ours.VectorMade(plan, made)
            case act.HandInVector(data, offer):
                assert self.sum.masked == data, "kept before it is said"
                assert self.sum.terms is not None
                sha256 = offer.manifest.sha256
                assert sha256 == make_manifest(data, role="update", name="x").sha256
                self.line.vectors.setdefault(sha256, (self.name, self.sum.terms.step.hex(), self.line.plain[self.name]))
                self.line.handed_in.setdefault((self.name, offer.round, offer.attempt), set()).add(sha256)
                self.line.masked[sha256] = data
                self.serving.add(sha256)
                self.say(offer)
                return None
        return super()._carry_out(action)

    def _note(self, message: object) -> None:
        assert self.sum.terms is not None, "kept before it is said"
        if isinstance(message, UnmaskAnswer):
            if self.sum.terms.once:
                super()._note(message)
            elif message.round == 0:
                self._note_company()
            return
        super()._note(message)

    def _note_company(self) -> None:
        assert self.sum.answer is not None, "it has agreed"
        company = frozenset(entry.device for entry in self.sum.roster)
        assert company == self.answered.devices, "kept before it is said, and nobody was lost"
        known = self.line.companies.setdefault(self.name, [])
        if not known or known[-1] != company:
            known.append(company)


@dataclass
class LocalCoordinator(MaskedCoordinator):
    """A coordinator whose devices choose their clusters alone. It finds them by sums, and learns no more."""

    line: LocalLine = field(default_factory=LocalLine)
    profile: DeviceProfile = PROFILE

    def _carry_out(self, action: theirs.Action) -> list[theirs.Event]:
        match action:
            case theirs.Cluster(clustering=number, epoch=epoch):
                assert number, "there are no codes to be clustered by"
                assert action.devices == {}
                return [
                    inquired(
                        begin(Plan(epoch=epoch, clustering=number, seed=b"seed", clusters=2, centroids=8, turns=1))
                    )
                ]
            case theirs.Aggregate(round=closed):
                (masked,) = closed.sums.values()
                total = self._total(masked)
                return [self._after(action, masked, total)]
        return super()._carry_out(action)

    def _after(self, action: theirs.Aggregate, masked: server.State, total: npt.NDArray[np.uint32]) -> theirs.Event:
        closed, devices = action.round, len(masked.survivors)
        if closed.question:
            found = step(msgspec.msgpack.decode(action.asking, type=State), devices, total)
            if isinstance(found, State):
                return inquired(found)
            places = np.array(found.centroids, "<i2").tobytes()
            return theirs.Grouped(places, {"counts": list(found.counts)})
        if closed.is_count:
            (one,) = counts(counts_question(closed.centroids), devices, total)
            slots = merged(one.counts, places_of(closed.centroids), SMALLEST)
            return theirs.Numbered(closed.number, tuple(one.counts.tolist()), bytes(slots))
        names = set(closed.summed)
        assert self.summed.setdefault(closed.number, names) == names, "asked for something else"
        self.aggregated.setdefault(closed.number, dict.fromkeys(names, f"{closed.number}"))
        made = {
            cluster: theirs.Lineage(manifest(f"{cluster}/{closed.number}", "cluster")) for cluster in action.clusters
        }
        return theirs.Aggregated(closed.number, clusters=made)

    def _total(self, masked: server.State) -> npt.NDArray[np.uint32]:
        """The unmasked sum, which is that of the plain vectors."""
        task = masked.task
        assert len(task.uploads) >= SMALLEST
        left = server.leftover(task)
        assert not left.liars
        parts = [self.line.vectors[sha256] for sha256 in task.uploads.values()]
        assert [name for name, _, _ in parts] == sorted(task.uploads)
        assert len({work for _, work, _ in parts}) == 1, "of one step"
        vectors = [from_bytes(self.line.masked[sha256]) for sha256 in task.uploads.values()]
        total: npt.NDArray[np.uint32] = np.array(vectors).sum(axis=0, dtype=np.uint32)
        server.unmask(total, left)
        plain = np.array([from_bytes(data) for _, _, data in parts]).sum(axis=0, dtype=np.uint32)
        assert (total == plain).all(), "the exact sum, or nothing"
        return total


def inquired(state: State) -> theirs.Inquired:
    return theirs.Inquired(msgspec.msgpack.encode(state), msgspec.msgpack.encode(state.question))


class LocalWorld(MaskedWorld):
    """Eight devices of two tastes. Nobody leaves for good: the company of the last sum is needed."""

    names: ClassVar[tuple[str, ...]] = NAMES
    owner_stops = None

    def make_coordinator(self) -> Coordinator:
        self.line = LocalLine()
        given = rules(
            min_devices=8, rounds=3, root_rounds=0, quorum=0.75, masking=MASKING, words={Share.BOTH: WORDS},
            slot_words={Share.BOTH: SLOT}, smallest=SMALLEST, privacy="local", max_update=1 << 20,
            name=FEDERATION, patience=30.0, **self.times,
        )  # fmt: skip
        return LocalCoordinator(
            rules=given,
            say=lambda device, packet: self.down.append((device, packet)),
            show=self.retain,
            line=self.line,  # type: ignore[arg-type]
        )

    def device(self, name: str) -> Device:
        return LocalDevice(name=name, say=lambda packet: self.up.append((name, packet)), line=self.line)  # type: ignore[arg-type]

    @rule(name=st.sampled_from(NAMES))
    def any_device_dies(self, name: str) -> None:
        self.device_dies(name)

    @rule(name=st.sampled_from(NAMES), actions=st.integers(0, 9))
    def any_device_dies_soon(self, name: str, actions: int) -> None:
        self.devices[name].left = actions

    @invariant()
    def no_two_sums_show_a_code(self) -> None:
        assert isinstance(self.line, LocalLine)
        for companies in self.line.companies.values():
            for before, after in pairwise(companies):
                assert hides(after, before, SMALLEST)

    @invariant()
    def the_coordinator_knows_nobodys_cluster(self) -> None:
        state = self.coordinator.state
        assert all(known.cluster is None for known in state.devices.values())
        if state.current is not None:
            assert all(member.cluster is None for member in state.current.cohort.values())
            assert all(member.start is None for member in state.current.cohort.values())

    def teardown(self) -> None:
        self.no_two_sums_show_a_code()
        super().teardown()
        centroids = places_of(self.coordinator.state.alone.centroids)
        assert len(centroids) == len(self.coordinator.state.clusters) >= 1
        assert self.coordinator.state.alone.clusterings <= MOST_CLUSTERINGS
        for name, one in self.devices.items():
            assert one.state.cluster == nearest_centroid(code_of(name), centroids)
        assert len(self.coordinator.state.alone.centroids) % CENTROID_BYTES == 0


class PatientLocalWorld(Patient, LocalWorld):
    """Two clusters are found, and every round has the sum of all."""

    def teardown(self) -> None:
        super().teardown()
        assert isinstance(self.coordinator, LocalCoordinator)
        assert self.coordinator.summed == {number: set(NAMES) for number in (1, 2, 3)}
        assert self.coordinator.state.alone.clusterings == 1
        assert len(self.coordinator.state.clusters) == 2
        clusters = {name: one.state.cluster for name, one in self.devices.items()}
        assert len({(name[0], cluster) for name, cluster in clusters.items()}) == 2


SETTINGS = settings(max_examples=6, stateful_step_count=30, deadline=None)
TestLocalWorld = LocalWorld.TestCase
TestLocalWorld.settings = SETTINGS
TestPatientLocalWorld = PatientLocalWorld.TestCase
TestPatientLocalWorld.settings = SETTINGS
