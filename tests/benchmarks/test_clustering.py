"""Bars of benchmarks.clustering, and its synthetic federations."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.clustering import DEFAULT, NO_GROUPS, bars, decided, told_apart
from benchmarks.crowd import stickers
from benchmarks.crowd.cost import arrival, in_own_process
from benchmarks.crowd.events import EVENTS, events
from benchmarks.crowd.stickers import StickerFederation
from benchmarks.crowd.tastes import DIMENSIONS, LAYERS, NOISES, PICTURE_DIMENSIONS, RANK, Federation
from benchmarks.report.clustering import styles
from edge_sdk.inference import Generator
from tests.models import picture_bundle, tiny_bundle

RESULTS = Path("benchmarks/results/clustering.json")


def _row(how: str, ari: float, devices: int = 500, rule: str = "given", clusterer: str = "fused") -> dict[str, Any]:
    case = {"part": "groups", "devices": devices, "noise": "low", "clusterer": clusterer, "rule": rule}
    return {**case, "how": how, "ari": ari}


def test_bars_are_computed_from_rows() -> None:
    rows = [
        _row("dense", 0.9),
        _row("coarse", 0.5, devices=100),  # the bar is that of 500 devices
        _row("coarse", 0.89),
        _row("dense", 0.8, clusterer="adapter"),
        _row("coarse", 0.75, clusterer="adapter"),
        _row("dense", 0.1, rule="eigengap"),
        _row("coarse", 0.6, rule="eigengap"),
        {"part": "many", "devices": 10_000, "noise": "low", "seconds": 20.0, "peak_gb": 2.5},
        *(
            {"part": "event", "devices": devices, "event": event, "step_us": step, "saved_ms": saved}
            for devices, event, step, saved in (
                (100, "heard", 50.0, 2.0),
                (1000, "heard", 99.0, 9.0),
                (10_000, "heard", 60.0, 2.0),
                (100, "stored", 20.0, 4.0),
                (10_000, "stored", 40.0, 5.0),
            )
        ),
        {**_row("dense", 0.0, devices=16, rule=DEFAULT), "noise": NO_GROUPS, "most_found": 3},
        *(
            {**_row("dense", ari, devices=48, clusterer=clusterer), "part": "evidence", "noise": noise, "named": named}
            | {"pictures": "useless"}
            for noise, named, clusterer, ari in (
                ("low", 0.5, "picture", 0.1),
                ("low", 0.5, "fused", 0.9),
                ("low", 0.5, "validated", 0.7),
                ("low", 1.0, "validated", 0.3),
                ("high", 0.5, "validated", 0.2),
                ("high", 0.5, "fused", 1.0),
            )
        ),
        *(
            {"part": "styles", "devices": devices, "named": named, "level": "coarse", "clusterer": clusterer}
            | {"ari_before": 1.0, "ari": ari}
            for devices, named, clusterer, ari in (
                (16, 0.0, "validated", 0.8),
                (16, 0.5, "validated", 0.9),
                (48, 0.0, "prompt", 0.1),
            )
        ),
    ]
    found = {bar.name: (bar.value, bar.holds) for bar in bars(rows)}
    lost = "500 devices, low noise, {}: ARI that coarse loses to dense, worst clusterer"
    assert found[lost.format("given")] == (pytest.approx(0.05), False)
    assert found[lost.format("eigengap")] == (-0.5, True)
    assert found["10000 devices, low noise: seconds, all that is read included"] == (20.0, True)
    assert found["10000 devices, low noise: peak memory, GB"] == (2.5, False)
    assert found["an event of 10000 devices, round machine: cost in that of 100"] == (2.0, False)
    assert found["an event of 10000 devices, saved and carried out: cost in that of 100"] == (1.25, True)
    assert found["16 devices without groups, fused: groups by the default rule"] == (3, False)
    named = "16 devices, level coarse, {} name their style: ARI of validated"
    assert found[named.format("0%")] == (0.8, True)
    assert found[named.format("50%")] == (0.9, False)
    assert not any(name.startswith("48 devices, level") for name in found)
    assert found["48 devices: ARI that validated loses to the best evidence, worst case"] == (
        pytest.approx(0.2),
        False,
    )


def test_federations_are_of_the_stated_shapes_and_repeat() -> None:
    federation, again = (Federation(12, 3, NOISES["middle"], 5) for _ in range(2))
    assert federation.codes.shape == (12, DIMENSIONS)
    np.testing.assert_array_equal(federation.codes, again.codes)
    bases = federation[7]
    assert len(bases) == sum(count for count, _ in LAYERS.values()) == 56
    for name, basis in bases.items():
        assert basis.shape == (LAYERS[name.split(".")[1]][1], RANK)
        np.testing.assert_allclose(basis.T @ basis, np.eye(RANK), atol=1e-12)
        np.testing.assert_array_equal(basis, again[7][name])
    assert np.bincount(federation.truth).tolist() == [4, 4, 4]


def test_captions_and_pictures_change_no_other_evidence() -> None:
    plain = Federation(40, 4, NOISES["low"], 5)
    silent = Federation(40, 4, NOISES["low"], 5, named=0.0, pictures="informative")
    half = Federation(40, 4, NOISES["low"], 5, named=0.5, pictures="useless")
    assert plain.pictures is None
    np.testing.assert_array_equal(plain.truth, silent.truth)
    for name, basis in plain[7].items():
        np.testing.assert_array_equal(basis, silent[7][name])
    assert int((half.codes == plain.codes).all(axis=1).sum()) == 20
    assert not (silent.codes == plain.codes).any()
    assert silent.pictures is not None
    assert silent.pictures.shape == (40, PICTURE_DIMENSIONS)


def test_the_clusterers_decide_by_themselves() -> None:
    found = {row["clusterer"]: row for row in decided(16, "low", 0.0, "informative", 0)}
    assert list(found) == ["fused", "prompt", "picture", "validated"]
    assert found["prompt"]["ari"] == 0.0
    assert found["validated"]["ari"] == found["picture"]["ari"] == 1.0
    assert found["validated"]["chosen_picture"] == 1.0


@pytest.fixture
def of_stickers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Codes by a tiny bundle with an image encoder; what they say of styles does not matter here."""
    monkeypatch.setattr(stickers, "LEARNT", tmp_path)
    monkeypatch.setattr(stickers, "_embedded", functools.cache(stickers._embedded.__wrapped__))
    monkeypatch.setattr(stickers, "_embedded_picture", functools.cache(stickers._embedded_picture.__wrapped__))
    with Generator.load(picture_bundle(), threads=1, verify=False) as generator:
        monkeypatch.setattr(stickers, "generator", lambda: generator)
        yield


# The tiny tokenizer needs many tokens for a caption.
@pytest.mark.filterwarnings("ignore::edge_sdk.inference.PromptTruncated")
@pytest.mark.usefixtures("of_stickers")
def test_devices_of_the_stickers_name_their_styles_or_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    silent, half, all_of_them = (StickerFederation(8, named, 3) for named in (0.0, 0.5, 1.0))
    words = ("bright paper cutout", "black ink stamp", "glossy clay figure", "retro badge")
    says = [
        [any(text.startswith(words) for text in own) for own in one.captions] for one in (silent, half, all_of_them)
    ]
    assert says == [[False] * 8, [False] * 4 + [True] * 4, [True] * 8]
    assert silent.truth.tolist() == [0, 1, 2, 3] * 2
    assert StickerFederation(12, 0.5, 3).captions[:8] == half.captions
    for level in ("plain", "coarse"):
        one, again = (half.evidence(level, 0) for _ in range(2))
        np.testing.assert_array_equal(one.codes, again.codes)
        assert one.pictures is not None
        assert one.pictured.all()
        assert not one.trained.any()
    with Generator.load(tiny_bundle(), threads=1, verify=False) as generator:
        monkeypatch.setattr(stickers, "generator", lambda: generator)
        assert half.evidence("coarse", 0).pictures is None, "a bundle without an image encoder"


@pytest.mark.filterwarnings("ignore::edge_sdk.inference.PromptTruncated")
@pytest.mark.usefixtures("of_stickers")
def test_the_stickers_clusterers_decide_before_training_and_after_it(tmp_path: Path) -> None:
    rows = list(told_apart(4, 0.0, "coarse", 1, 0))
    assert [row["clusterer"] for row in rows] == ["fused", "prompt", "picture", "validated"]
    assert all(isinstance(row[name], float) for row in rows for name in ("ari_before", "ari"))
    assert len(list(tmp_path.glob("*.safetensors"))) == 4
    table = styles({"rows": rows})
    assert "| devices | captions with style words | level | `fused` |" in table
    assert table.count("→") == 4


def test_many_devices_in_a_process_of_their_own() -> None:
    row = in_own_process(300, 8, "low", 2, 0)
    assert row["ari_given"] == pytest.approx(1.0)
    assert row["bases_read"] == 0
    assert isinstance(row["peak_gb"], float)
    assert 0.05 < row["peak_gb"] < 2.0


def test_an_update_that_arrives() -> None:
    row = arrival(2)
    assert isinstance(row["ms_a_device"], float)
    assert row["ms_a_device"] > 0


def test_an_event_of_each_kind() -> None:
    rows = events(40, 3)
    assert [row["event"] for row in rows] == list(EVENTS)
    assert all(isinstance(row[name], float) and row[name] > 0 for row in rows for name in ("step_us", "saved_ms"))


def test_committed_results_give_the_committed_bars() -> None:
    content = json.loads(RESULTS.read_text("utf-8"))
    found = [(bar.name, bar.value, bar.holds) for bar in bars(content["rows"])]
    assert found == [(bar["name"], bar["value"], bar["holds"]) for bar in content["bars"]]
