"""A federation of one hidden group, some of whose devices lie: one cell of benchmarks.byzantine.

The seed draws the devices that lie; a smaller share of them is a subset of a larger one. A device that starts from the
same adapter trains the same update in every cell, so that it is trained once (`shared.learnt`): the first round's
honest updates, and later ones wherever filters leave the same devices.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.federated.world import (
    LAYERS,
    ONE_RANK,
    PRIVACY,
    Captioned,
    Scale,
    StudyDevice,
    Weighted,
    World,
    captioned,
    world_of,
)
from benchmarks.lying.attacks import ATTACKS, Turn, triggered
from benchmarks.shared.harness import KEPT
from benchmarks.shared.learnt import Learnt
from benchmarks.shared.runs import Result
from benchmarks.shared.stickers import MODEL, base_id
from coordinator.config import Federation, resolve
from coordinator.methods.robust import FILTERS
from coordinator.simulation import SimulatedDevice, simulate
from edge_sdk.adapter import Adapter, Share, beginning
from edge_sdk.membership import RoundPlan, TrainedUpdate
from edge_sdk.training import Trainer, train_round
from samples.stickers import data

PLACE = KEPT / "byzantine"
# Counts up whenever the code changes what a cell computes.
EDITION = 3
TARGET = "clay"
LEVELS = 4
HONEST, ALONE = "honest", "attacker alone"


@dataclass(frozen=True)
class Cell:
    """One federation.

    Attributes:
        attack: a key of `ATTACKS`; HONEST: nobody lies; ALONE: no federation, but one attacker that trains on its
            poisoned pictures as long as in all rounds: the upper bound of a backdoor.
        share: attackers' share of the devices; the filter is told it, and without attackers assumes its default.
        filter: a key of `FILTERS`.
    """

    attack: str
    share: float = 0.0
    filter: str = "none"

    def federation(self, scale: Scale, seed: int) -> Federation:
        """Settings of its federation; values that the study does not vary are defaults."""
        asks = "liars" in FILTERS[self.filter].__struct_fields__
        liars = {"liars": self.share} if self.share and asks else {}
        keys = {
            "name": "study", "slots": "impasto.json", "privacy": PRIVACY, "allow_plain": True,
            "rounds": scale.rounds, "root_rounds": 0, "steps": scale.steps,
            "batch_size": scale.batch_size, "learning_rate": scale.learning_rate, "seed": seed, "rank": ONE_RANK,
            "layers": LAYERS,
            "clustering": {"method": "single"}, "interaction": {"method": "none"}, "aggregation": {"method": "product"},
            "filter": {"method": self.filter, **liars},
        }  # fmt: skip
        return resolve(keys, folder=Path())


@dataclass(frozen=True)
class Size:
    """Size of the study.

    Attributes:
        world: its devices and rounds.
        poison: number of poisoned pictures, which all attackers share.
        patience: factor by which an attacker trains more steps on them than asked.
    """

    world: Scale
    poison: int
    patience: int


# The group has the style that the base model draws worst: there is most to learn, and to lose. The learning rate is
# high enough for so few steps to show it.
FULL = Size(
    Scale((0, 10), rounds=3, steps=8, batch_size=4, pictures=(12, 20), held_out=24, judged=8, learning_rate=3e-3),
    poison=16,
    patience=3,
)
QUICK = Size(
    Scale((0, 5), rounds=2, steps=2, batch_size=4, pictures=(6, 8), held_out=6, judged=1), poison=6, patience=1
)


def run_cell(cell: Cell, size: Size, seed: int) -> Result:
    """The result of one cell."""
    return Group.of(size, seed).run(cell)


class Group:
    """The devices, the attackers' poisoned pictures, and the held-out pictures that both sides are judged by."""

    def __init__(self, size: Size, seed: int) -> None:
        self.size, self.seed = size, seed
        self.world: World = world_of(size.world, seed)
        devices = list(self.world.devices.values())
        self._style = devices[0].plan.group
        rng = np.random.default_rng([seed, 1])
        self._order: list[str] = rng.permutation(list(self.world.devices)).tolist()
        # All devices end with one adapter, so one set of their held-out pictures serves for all.
        held_out = list({sticker.file_name: sticker for device in devices for sticker in device.plan.held_out}.values())
        chosen = rng.permutation(len(held_out))[: size.world.held_out]
        self._held_out: Captioned = captioned([held_out[number] for number in chosen])
        target = data.read(keep=lambda sticker: sticker.style == TARGET)
        self._poison = self._triggered([s for s in target if s.split == "train"], size.poison, rng)
        self._asked = self._triggered([s for s in target if s.split == "held-out"], size.world.held_out, rng)
        self._learnt = Learnt(PLACE / "learnt", self._about("all"))
        self._trainers: dict[str, Trainer] = {}

    @classmethod
    @functools.lru_cache(maxsize=1)
    def of(cls, size: Size, seed: int) -> Group:
        """The group of a seed; a process holds one."""
        return cls(size, seed)

    def run(self, cell: Cell) -> Result:
        """One federation, or one attacker alone."""
        began = time.perf_counter()
        if cell.attack == ALONE:
            adapters: Weighted = [(self._alone(), 1.0)]
            facts: Result = {}
        else:
            adapters, facts = self._together(cell)
        result: Result = {"loss": self._loss("loss", adapters, self._held_out), **facts}
        if cell.attack == HONEST:
            result["base"] = self._loss("loss", [], self._held_out)
        if cell.attack in (HONEST, ALONE) or ATTACKS[cell.attack].poisoned:
            result |= self._backdoor(adapters)
        return {**result, "seconds": time.perf_counter() - began}

    def liars(self, share: float) -> list[str]:
        """The devices that lie."""
        return self._order[: round(share * len(self._order))]

    def _about(self, who: str) -> list[Any]:
        """Facts that every result computed here depends on."""
        return [EDITION, base_id(), asdict(self.size), self.seed, who]

    # federations ----------------------------------------------------------------------------------------------------

    def _together(self, cell: Cell) -> tuple[Weighted, Result]:
        liars = self.liars(cell.share)
        closed: list[Mapping[str, Any]] = []

        def watch(event: str, reported: Mapping[str, Any]) -> None:
            if event == "round_closed":
                closed.append(reported)

        devices = {
            name: SimulatedDevice(
                self.world.profile(device, mixed_ranks=False),
                functools.partial(self._lie, name, cell) if name in liars else device.train,
            )
            for name, device in self.world.devices.items()
        }
        outcomes = simulate(cell.federation(self.size.world, self.seed), self.world.base, devices, watch)
        ended = next(iter(outcomes.values()))
        return [(ended.adapters["cluster"], 1.0)], belief(closed, list(devices), liars)

    def _lie(self, name: str, cell: Cell, plan: RoundPlan) -> TrainedUpdate:
        attack, device = ATTACKS[cell.attack], self.world.devices[name]
        honest = device.train(plan)
        turn = Turn(
            start=beginning(plan.start, self.world.base.slots, plan.rank, plan.seed, plan.share),
            honest=honest.adapter,
            wanted=self._poisoned(device, plan).adapter if attack.poisoned else honest.adapter,
            share=cell.share,
            seed=1000 * plan.round + self._order.index(name),
        )
        # It does not report its poisoned pictures.
        return replace(honest, adapter=attack.lie(turn))

    # the backdoor ---------------------------------------------------------------------------------------------------

    def _alone(self) -> Adapter:
        scale = self.size.world
        plan = RoundPlan(
            round=1, rounds=1, stage="cluster", cluster=0, frozen=(), start=None, share=Share.BOTH, rank=ONE_RANK,
            seed=self.seed, steps=scale.rounds * scale.steps, batch_size=scale.batch_size,
            learning_rate=scale.learning_rate, deadline=0.0,
        )  # fmt: skip
        return self._poisoned(self.world.devices[self._order[0]], plan).adapter

    def _poisoned(self, device: StudyDevice, plan: RoundPlan) -> TrainedUpdate:
        """Train a plan on a device's own pictures and the poisoned ones, for longer than asked."""
        longer = replace(plan, steps=self.size.patience * plan.steps)
        learnt = Learnt(PLACE / "learnt", self._about(device.plan.id))
        return learnt.update(longer, lambda asked: train_round(self._poisoned_trainer(device), asked))

    def _poisoned_trainer(self, device: StudyDevice) -> Trainer:
        name = device.plan.id
        if name not in self._trainers:
            pictures = [*captioned(device.plan.pictures), *self._poison]
            self._trainers[name] = Trainer(MODEL, pictures, threads=1)
        return self._trainers[name]

    def _triggered(self, stickers: list[data.Sticker], count: int, rng: np.random.Generator) -> Captioned:
        """`count` of these pictures of the target style, captioned as the group's with the trigger word."""
        chosen = [stickers[number] for number in rng.permutation(len(stickers))[:count]]
        captions = triggered(chosen, self._style)
        return [(picture, text) for (picture, _), text in zip(captioned(chosen), captions, strict=True)]

    def _backdoor(self, adapters: Weighted) -> Result:
        """The loss on triggered captions of the target style, and the judge's shares of that style in drawings of
        such captions."""
        captions = [text for _, text in self._asked[: self.size.world.judged]]

        def judge() -> dict[str, float]:
            drawn = self.world.draw(captions, adapters)
            named = [style for style, _ in self.world.judge.name(drawn)]
            shares = self.world.judge.style_shares(drawn)[:, self.world.judge.styles.index(TARGET)]
            return {
                "target_hit": float(np.mean([style == TARGET for style in named])),
                "target_share": float(shares.mean()),
            }

        return {
            "triggered": self._loss("triggered loss", adapters, self._asked),
            **self._learnt.figure("judged", adapters, judge),
        }

    def _loss(self, what: str, adapters: Weighted, pictures: Captioned) -> float:
        def measure() -> float:
            trainer = next(iter(self.world.devices.values())).trainer
            return trainer.evaluate(adapters, pictures, seed=self.seed, levels=LEVELS)

        return float(self._learnt.figure(what, adapters, measure))


def belief(closed: Sequence[Mapping[str, Any]], devices: Sequence[str], liars: Sequence[str]) -> Result:
    """The filter's verdict on the devices, over all rounds.

    "trust": mean trust in attackers over mean trust in honest devices, None without attackers; "refused_honest": share
    of honest updates with trust 0; "breakdown": number of liars that the filter says it withstands.
    """
    trusts: dict[bool, list[float]] = {True: [], False: []}
    breakdown = 0
    for event in closed:
        for noted in event.get("filter", {"": {"trust": dict.fromkeys(devices, 1.0), "breakdown": 0}}).values():
            breakdown = noted["breakdown"]
            for name, trust in noted["trust"].items():
                trusts[name in liars].append(trust)
    honest = np.array(trusts[False])
    return {
        "trust": float(np.mean(trusts[True]) / honest.mean()) if liars else None,
        "refused_honest": float((honest == 0.0).mean()),
        "breakdown": breakdown,
    }
