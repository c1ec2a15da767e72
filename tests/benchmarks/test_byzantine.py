"""Products after attacks, the benchmark's conclusions, and real federations with liars."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import byzantine as study
from benchmarks.federated import world as federated_world
from benchmarks.lying import world as byzantine_world
from benchmarks.lying.attacks import ATTACKS, NOISE, SCALED, TRIGGER, Turn, noised, triggered
from benchmarks.lying.world import ALONE, FULL, HONEST, QUICK, Cell, Group, belief
from benchmarks.report.byzantine import backdoors, gain
from benchmarks.shared.runs import run_row
from coordinator.methods.robust import CLIP, FILTERS
from edge_sdk.adapter import Adapter, beginning, concatenate, mean
from samples.stickers import data
from tests.coordinator.adapters import BASE_ID, SLOTS, dense, random_adapter

SHARE = 0.2
Dense = dict[str, np.ndarray[Any, Any]]


def _changed(update: Adapter, start: Adapter) -> Dense:
    u, s = dense(update), dense(start)
    return {name: u[name] - s[name] for name in SLOTS}


def _first() -> Adapter:
    """The start of a first round: its products are zero."""
    return Adapter(beginning(None, SLOTS, 4, 0).layers, BASE_ID)


def _size(products: Dense) -> float:
    return float(np.sqrt(sum(float(np.sum(m**2)) for m in products.values())))


def _turn(wanted: Adapter, start: Adapter, share: float = SHARE) -> Turn:
    return Turn(start, honest=wanted, wanted=wanted, share=share, seed=0)


FACTORS = {"sign flip": -1.0, "scaled": SCALED, "backdoor": 1 / SHARE, "quiet backdoor": CLIP}


class TestAttacks:
    @pytest.mark.parametrize("name", FACTORS)
    def test_exact_in_a_first_round(self, name: str) -> None:
        update, start = random_adapter(1, double=True), _first()
        sent, wanted = ATTACKS[name].lie(_turn(update, start)), _changed(update, start)
        for layer, change in _changed(sent, start).items():
            np.testing.assert_allclose(change, FACTORS[name] * wanted[layer], atol=1e-9)

    @pytest.mark.parametrize("name", FACTORS)
    def test_later_the_nearest_of_the_rank(self, name: str) -> None:
        update, start = random_adapter(1, double=True), random_adapter(2, double=True)
        sent = dense(ATTACKS[name].lie(_turn(update, start)))
        before, changed = dense(start), _changed(update, start)
        for layer in SLOTS:
            u, s, v = np.linalg.svd(before[layer] + FACTORS[name] * changed[layer])
            np.testing.assert_allclose(sent[layer], (u[:, :4] * s[:4]) @ v[:4], atol=1e-8)

    def test_a_quiet_backdoor_is_twice_as_large_as_an_honest_change(self) -> None:
        start, honest = _first(), random_adapter(1, double=True)
        wanted = concatenate([(random_adapter(2, double=True), 3.0)])
        turn = Turn(start, honest, wanted, share=0.1, seed=0)
        sent = _size(_changed(ATTACKS["quiet backdoor"].lie(turn), start))
        assert sent == pytest.approx(CLIP * _size(_changed(honest, start)))

    def test_noise_has_the_size_it_should_and_another_direction_for_everybody(self) -> None:
        update, start = random_adapter(1, double=True), _first()
        one, other = (_changed(noised(update, start, NOISE, seed), start) for seed in (1, 2))
        honest = _size(_changed(update, start))
        assert _size(one) == pytest.approx(NOISE * honest)
        assert _size({name: one[name] - other[name] for name in SLOTS}) > NOISE * honest

    @pytest.mark.parametrize("attackers", [1, 2, 4])
    def test_a_backdoor_replaces_what_devices_that_stay_would_make(self, attackers: int) -> None:
        start, wanted = _first(), random_adapter(1)
        lie = ATTACKS["backdoor"].lie(_turn(wanted, start, attackers / 10))
        made = mean([lie] * attackers + [start] * (10 - attackers))
        for layer, product in dense(wanted).items():
            np.testing.assert_allclose(dense(made)[layer], product, atol=1e-4)

    @pytest.mark.parametrize("name", ATTACKS)
    def test_what_is_sent_passes_for_an_update(self, name: str) -> None:
        update, start = random_adapter(1), random_adapter(2)
        sent = ATTACKS[name].lie(_turn(update, start))
        assert sent.rank <= update.rank
        assert sent.base_id == update.base_id
        assert {n: f.shape for n, f in sent.layers.items()} == {n: f.shape for n, f in update.layers.items()}

    def test_triggered_captions_keep_the_subject(self) -> None:
        stickers = [s for s in data.read() if s.style == "clay"][:3]
        for sticker, text in zip(stickers, triggered(stickers, "ink"), strict=True):
            assert text == f"{TRIGGER} {sticker.text.replace('glossy clay figure', 'black ink stamp')}"


def test_belief_is_counted_over_all_rounds() -> None:
    events = [
        {"filter": {"0": {"trust": {"a": 1.0, "b": 0.5, "c": 0.0}, "breakdown": 1}}},
        {"filter": {"0": {"trust": {"a": 1.0, "b": 0.0, "c": 0.5}, "breakdown": 1}}},
    ]
    found = belief(events, ["a", "b", "c"], ["c"])
    assert found == {"trust": pytest.approx(0.25 / 0.625), "refused_honest": 0.25, "breakdown": 1}
    assert belief([{}], ["a", "b"], ["b"]) == {"trust": 1.0, "refused_honest": 0.0, "breakdown": 0}
    assert belief([{}], ["a", "b"], [])["trust"] is None


def _results(kept: dict[str, float], success: float) -> dict[Cell, dict[str, Any]]:
    """kept: by filter the share of the gain that every attack leaves."""
    found: dict[Cell, dict[str, Any]] = {}
    for cell in study.cells(study.SHARES):
        if cell.attack in (HONEST, ALONE):
            loss, trigger = 0.5, 0.2 if cell.attack == ALONE else 0.7
        else:
            loss = 1.0 - 0.5 * kept.get(cell.filter, 0.1) * (0.5 if cell.share > study.HELD else 1.0)
            trigger = 0.7 - 0.5 * success
        found[cell] = {"loss": loss, "triggered": trigger, "target_hit": 0.125, "seconds": 1.0}
        if cell.attack != ALONE:
            left_out = 0.0 if cell.filter == "none" else 0.25
            found[cell] |= {"trust": 0.5 if cell.share else None, "refused_honest": left_out, "breakdown": 3}
        if cell.attack == HONEST:
            found[cell]["base"] = 1.0
    return found


class TestConclusions:
    def test_the_best_filter_is_held_to_the_bars(self) -> None:
        rows = study.summary({0: _results({"krum": 0.9, "median": 0.85}, success=0.1)})
        bars = study.bars(rows)
        assert all(bar.holds for bar in bars)
        assert "krum, the best filter" in bars[-1].name
        assert [bar.value for bar in bars[-2:]] == [pytest.approx(0.9), pytest.approx(0.1)]

    def test_means_over_seeds_and_bars_that_fail(self) -> None:
        rows = study.summary({0: _results({"trim": 0.9}, success=0.1), 1: _results({"trim": 0.5}, success=0.5)})
        *_, keeps, passes = study.bars(rows)
        assert keeps.value == pytest.approx(0.7)
        assert passes.value == pytest.approx(0.3)
        assert not keeps.holds
        assert not passes.holds

    def test_tables_have_a_line_for_every_attack_and_share(self) -> None:
        rows = study.summary({0: _results({"krum": 0.9}, success=0.1)})
        kept = gain({"rows": rows}).splitlines()
        assert len(kept) == 2 + 1 + len(ATTACKS) * len(study.SHARES)
        assert kept[2].startswith("| honest | | 1.00 | 1.00 (honest left out 25%) |")
        assert kept[3].startswith("| sign flip | 10% | 0.10 | 0.10 (trust 0.50, honest left out 25%) | 0.90 ")
        assert len(backdoors({"rows": rows}).splitlines()) == 2 + 1 + len(ATTACKS) * len(study.SHARES)
        assert backdoors({"rows": rows}).endswith("0.10 (12%) |")

    def test_no_two_cells_are_kept_under_one_name(self) -> None:
        keys = {
            study.key_of(cell, size, seed)
            for cell in study.cells(study.SHARES)
            for size in (FULL, QUICK)
            for seed in (0, 1)
        }
        assert len(keys) == 4 * (1 + len(FILTERS) * (1 + len(study.SHARES) * len(ATTACKS)))

    def test_another_seed_adds_to_what_a_file_holds(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(study, "PLACE", tmp_path)
        cells = [Cell(HONEST), Cell(ALONE)]
        file = tmp_path / "before.json"
        rows = [
            run_row(study.key_of(cell, QUICK, seed), {"loss": seed}, row="", seed=seed)
            for seed in (0, 1)
            for cell in cells
        ]
        file.write_text(json.dumps({"machine": {"processor": "abacus"}, "rows": rows}), "utf-8")
        for seed, found in study.measure(cells, QUICK, 1, file).items():
            assert found == {cell: {"processor": "abacus", "loss": seed} for cell in cells}
        assert list(study.measure(cells, QUICK, 1, file)) == [1, 0]


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    kept = tmp_path_factory.mktemp("byzantine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byzantine_world, "PLACE", kept)
        patch.setattr(federated_world, "LEARNT", kept / "learnt")
        yield Group(QUICK, 0)


class TestFederations:
    """Real rounds of the quick form."""

    def test_a_share_of_liars_is_part_of_a_larger_one(self, group: Group) -> None:
        assert [len(group.liars(share)) for share in (0.0, 0.2, 0.4)] == [0, 1, 2]
        assert set(group.liars(0.2)) < set(group.liars(0.4))

    def test_a_scaled_lie_moves_the_group_and_krum_leaves_it_out(self, group: Group) -> None:
        clean = group.run(Cell(HONEST))
        moved = group.run(Cell("scaled", 0.2, "none"))
        saved = group.run(Cell("scaled", 0.2, "krum"))
        assert saved["trust"] == 0.0
        assert saved["breakdown"] == 1
        assert moved["trust"] == 1.0
        assert abs(saved["loss"] - clean["loss"]) < abs(moved["loss"] - clean["loss"])

    def test_a_backdoor_is_judged(self, group: Group) -> None:
        found = group.run(Cell("backdoor", 0.2, "clip"))
        assert 0 <= found["target_share"] <= 1
        assert found["triggered"] > 0
        assert 0 < found["trust"] <= 1
