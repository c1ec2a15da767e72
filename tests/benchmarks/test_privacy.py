"""Attacks of benchmarks.privacy on codes of known captions, its bars, and its committed results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

from benchmarks.attacks.captions import World, victim
from benchmarks.attacks.grouping import agreement, found_groups
from benchmarks.attacks.guesses import Guesses
from benchmarks.attacks.pictures import Album, album, attacked_pictures, grouped_pictures, owned, picture_groups
from benchmarks.attacks.recovery import nearest, recovered, voted
from benchmarks.attacks.rivals import Colluders, Rotation, SignHash, principal_components
from benchmarks.attacks.sums import Seen, clustered, named_without_names, singled, styles_of_lost
from benchmarks.privacy import (
    CROWDS,
    EPSILONS,
    QUICK,
    attacked,
    bars,
    by_sums,
    earlier,
    grouped,
    hashed,
    noise_attacked,
    rotated,
    with_noise,
)
from benchmarks.report.privacy import (
    codes,
    left,
    noisy_sums,
    pictures,
    rivals,
    sums,
    sums_attacked,
    sums_with_losses,
)
from benchmarks.report.privacy import noise_attacked as noise_table
from benchmarks.report.privacy import picture_groups as groups_of_pictures
from coordinator.methods.clustering.by_sums import Groups
from edge_sdk.privacy import DIMENSIONS, LEAVING, LEVELS, make_basis
from tests.models import EMBEDDING, picture_bundle, tiny_bundle

RESULTS = Path("benchmarks/results/privacy.json")
STYLES, GROUPS, SUBJECTS, DIM = 4, 5, 100, 64


@pytest.fixture(scope="module")
def known() -> World:
    """Captions whose embeddings are the sum of a style's, a group's and a subject's directions, and one of all.

    Styles differ in twelve directions, those of public captions in the same ones.
    """
    rng = np.random.default_rng(0)
    groups, subjects = (rng.normal(size=(count, DIM)) for count in (GROUPS, SUBJECTS))
    turn = np.linalg.qr(rng.normal(size=(DIM, 12)))[0].T
    styles, of_public = (2.0 * rng.normal(size=(count, 12)) @ turn for count in (STYLES + 1, 40))
    rows = [(style, subject) for style in range(STYLES + 1) for subject in range(SUBJECTS)]
    vectors = np.array(
        [2.0 + styles[s] + groups[x % GROUPS] + subjects[x] + 0.3 * rng.normal(size=DIM) for s, x in rows]
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    public = 2.0 + of_public[:, None] + rng.normal(size=(40, 8, DIM))
    public /= np.linalg.norm(public, axis=2, keepdims=True)
    subject_of = np.array([subject for _, subject in rows])
    return World(
        captions=[f"{style} {subject}" for style, subject in rows],
        vectors=vectors,
        styles=[f"style {number}" for number in range(STYLES)],
        groups=[f"group {number}" for number in range(GROUPS)],
        style_of=np.array([style for style, _ in rows]),
        subject_of=subject_of,
        group_of=subject_of % GROUPS,
        basis=make_basis(list(public), "a" * 64),
        public=public.reshape(-1, DIM),
    )


@pytest.fixture(autouse=True)
def rounded_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes are rounded by the same random numbers in every run."""
    monkeypatch.setattr("secrets.token_bytes", np.random.default_rng(0).bytes)


def test_a_device_has_the_captions_that_were_asked_for(known: World) -> None:
    device = victim(known, 2, 8, np.random.default_rng(1), 0.5)
    assert len(set(known.subject_of[device.captions].tolist())) == 8
    assert sorted(known.style_of[device.captions].tolist()) == [2] * 4 + [STYLES] * 4
    assert (known.group_of[device.captions] == device.group).sum() >= 4


@pytest.mark.parametrize("count", [2, 8, 16])
def test_the_captions_of_a_plain_code_are_found(known: World, count: int) -> None:
    rng = np.random.default_rng(count)
    device = victim(known, 1, count, rng)
    code = known.vectors[device.captions].mean(axis=0)
    assert set(recovered(known.vectors, code, count, rng).tolist()) == set(device.captions.tolist())
    assert len(set(nearest(known.vectors, code, count).tolist())) == count


def test_votes_name_captions_that_no_single_set_does(known: World) -> None:
    """In few dimensions, where many sets fit."""
    features, shares = known.basis.place(known.vectors)[:, :8], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        device = victim(known, 1, 8, rng)
        style = known.of_style[1]
        named = style[voted(features[style], features[device.captions].mean(axis=0), 8, rng)]
        assert len(set(named.tolist())) == 8
        shares.append(len(set(named.tolist()) & set(device.captions.tolist())) / 8)
    assert np.mean(shares) > 8 / SUBJECTS


def test_style_and_group_are_guessed(known: World) -> None:
    rng = np.random.default_rng(3)
    guesses = Guesses(known, known.vectors)
    devices = [victim(known, number % STYLES, 16, rng) for number in range(40)]
    means = [known.vectors[device.captions].mean(axis=0) for device in devices]
    assert all(guesses.style(mean) == device.style for mean, device in zip(means, devices, strict=True))
    assert np.mean([guesses.group(mean) == device.group for mean, device in zip(means, devices, strict=True)]) > 0.8


@pytest.mark.parametrize("pairs", [1, 8, DIM, 2 * DIM])
def test_colluders_know_as_many_coordinates_as_they_are(known: World, pairs: int) -> None:
    """Exactly, whatever the rotation."""
    rng = np.random.default_rng(pairs)
    rotation = Rotation(DIM, rng)
    means = known.vectors[rng.choice(len(known.captions), pairs, replace=False)]
    colluders = Colluders(means, rotation.code(means))
    mean = rng.normal(size=DIM)
    found = colluders.coordinates(rotation.code(mean))
    assert found == pytest.approx(colluders.features(mean[None])[0], abs=1e-6)
    assert len(found) == min(pairs, DIM)
    assert np.linalg.norm(rotation.code(mean)) == pytest.approx(np.linalg.norm(mean))


def test_a_sign_hash_has_only_signs(known: World) -> None:
    code = SignHash(known.basis.mean, 8, np.random.default_rng(0)).code(known.vectors[:16].mean(axis=0))
    assert code.shape == (8,)
    assert set(code.tolist()) <= {1.0, -1.0}


@pytest.mark.parametrize("level", LEVELS.values(), ids=lambda level: level.name)
def test_groups_are_those_of_the_coordinator(known: World, level: Any) -> None:
    rng = np.random.default_rng(4)
    truth = [number % STYLES for number in range(24)]
    crowd = [victim(known, style, 16, rng) for style in truth]
    found = found_groups([level.encode(known.vectors[one.captions], known.basis) for one in crowd], level, STYLES)
    assert agreement(truth, found) > 0.9


def test_every_row_has_its_chance_beside_it(known: World) -> None:
    rows = [row for name, level in LEAVING.items() for row in attacked(known, "code", name, level, QUICK, 0)]
    assert {(row["code"], row["captions"], row["refused"]) for row in rows} == {
        *(("plain", count, 0) for count in QUICK.captions),
        *(("coarse", count, int(count < 8)) for count in QUICK.captions),
    }
    for row in (*rows, *rotated(known, QUICK, 0), *hashed(known, QUICK, 0)):
        assert row["chance"] == row["captions"] / len(known.captions)
        assert (row["style_chance"], row["group_chance"]) == (1 / STYLES, 1 / GROUPS)
        assert row["informed"] > row["chance"]
    rows = list(grouped(known, QUICK, 0))
    assert {(row["part"], row["code"]) for row in rows} == {
        *((part, level) for part in ("groups", "no groups") for level in LEAVING),
        *(
            (part, name)
            for part in ("rival groups", "no rival groups")
            for name in ("principal components", "nearest step")
        ),
    }


def test_rows_of_clusters_found_by_sums(known: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CROWDS, 8, 2)
    rows = list(by_sums(known, QUICK, 0))
    assert {(row["part"], row["devices"]) for row in rows} == {
        (part, 8) for part in ("groups", "no groups", "local", "local attack", "local lost")
    }
    assert np.mean([row["ari"] for row in rows if row["part"] == "groups" and row["style words"] == "full"]) > 0.9
    for row in rows:
        if row["part"] == "local":
            assert (row["sums"], row["bytes_up"]) == (8.0, pytest.approx(180e3, rel=0.3))
        if row["part"] == "local attack":
            assert (row["chance"], row["style_chance"]) == (16 / len(known.captions), 1 / STYLES)
            assert row["informed"] > row["chance"]
    assert all(part({"rows": rows}).count("\n") >= 2 for part in (sums, sums_attacked, sums_with_losses))
    assert {part({"rows": []}) for part in (sums, sums_attacked, sums_with_losses)} == {"Not measured yet."}


def test_rows_of_clusters_found_by_sums_with_noise(known: World) -> None:
    size = replace(QUICK, noisy=(48,), federations=2)
    rows = with_noise(known, size, [0])
    assert [(row["devices"], row["style words"], row["epsilon"], row["too_few"]) for row in rows] == [
        (48, words, epsilon, int(epsilon < 8)) for words in ("full", "half") for epsilon in EPSILONS
    ]
    assert rows[2]["ari"] > rows[0]["ari"]
    attacks = list(noise_attacked(known, size, 0))
    assert [(row["devices"], row["epsilon"]) for row in attacks] == [(48, 8)]
    assert attacks[0]["informed"] > attacks[0]["chance"]
    assert noisy_sums({"rows": rows}).count("refused") == 4
    assert all(part({"rows": [*rows, *attacks]}).count("\n") >= 2 for part in (noisy_sums, noise_table))
    assert {part({"rows": []}) for part in (noisy_sums, noise_table)} == {"Not measured yet."}


def test_parts_of_an_earlier_run_are_kept_if_they_are_of_the_same_model_and_seeds(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    rows = [{"part": "base model", "id": "b"}, {"part": "code", "code": "plain"}]
    found = {"command": "python -m benchmarks.privacy --json x.json", "seeds": [0, 1, 2], "rows": rows}
    assert earlier(file, [0, 1, 2], "b", quick=False) == []
    file.write_text(json.dumps(found))
    assert earlier(file, [0, 1, 2], "b", quick=False) == rows
    for seeds, base, quick in (([0], "b", False), ([0, 1, 2], "c", False), ([0, 1, 2], "b", True)):
        assert earlier(file, seeds, base, quick=quick) == []
    file.write_text(json.dumps({**found, "rows": rows[1:]}))
    assert earlier(file, [0, 1, 2], "b", quick=False) == [], "of which model is not known"


def test_clusters_found_by_sums_are_found_under_losses(known: World) -> None:
    rng = np.random.default_rng(5)
    truth = [number % STYLES for number in range(32)]
    crowd = [victim(known, style, 16, rng) for style in truth]
    own = [LEVELS["coarse"].encode(known.vectors[one.captions], known.basis) for one in crowd]
    for lost in (0.0, 0.3):
        assert agreement(truth, clustered(own, 0, rng, 3, lost).labels) > 0.9


def test_a_code_is_singled_out_by_the_difference_of_two_sums() -> None:
    seen = Seen(Groups(centroids=(), counts=(), silhouette=0.0, questions=0), np.zeros(0, np.int64))
    seen.companies = {0b00111, 0b00110, 0b11000, 0b10000}
    assert singled(seen, 5) == 3 / 5, "the first by a difference, the fourth too, the fifth as a sum of one"


def test_a_device_by_name_tells_nothing_by_sums_unless_it_is_lost(known: World) -> None:
    """The attack is real on its code: it guesses the style of a device that is missing alone in one sum."""
    rng = np.random.default_rng(6)
    crowd = [victim(known, number % STYLES, 16, rng) for number in range(24)]
    own = [LEVELS["coarse"].encode(known.vectors[one.captions], known.basis) for one in crowd]
    views = named_without_names(known, crowd, own, clustered(own, 0, rng), 4, rng)
    assert set(views) == {"centroids", "codes without names"}
    assert [view["style"] for view in views.values()] == [1 / STYLES] * 2
    assert max(view["found"] for view in views.values()) < 0.1
    assert styles_of_lost(known, crowd, own, 1, rng) == 1.0
    assert styles_of_lost(known, crowd, own, 24, rng) == 1 / STYLES


def test_principal_components_are_those_of_scikit_learn(known: World) -> None:
    basis = principal_components(known.public)
    reference = PCA(DIMENSIONS).fit(known.public)
    assert np.abs(np.sum(basis.axes * reference.components_, axis=1)) == pytest.approx(1.0, abs=1e-6)
    assert np.median(np.linalg.norm(basis.place(known.public), axis=1)) == pytest.approx(1.0)


@pytest.fixture(scope="module")
def shown() -> Album:
    """Pictures of four styles that scatter by 1 in each of 32 dimensions, and of others."""
    rng = np.random.default_rng(0)
    centres = 2.0 * rng.normal(size=(STYLES + 1, 32))
    style_of = np.arange(500) % (STYLES + 1) - 1
    return Album(
        vectors=centres[style_of] + rng.normal(size=(500, 32)),
        styles=[f"style {number}" for number in range(STYLES)],
        style_of=style_of,
        group_of=np.arange(500) % GROUPS,
    )


def test_a_device_has_pictures_of_its_style(shown: Album) -> None:
    pictures = owned(shown, 2, 9, np.random.default_rng(0))
    assert len(set(pictures.tolist())) == 9
    assert set(shown.style_of[pictures].tolist()) == {2}
    assert max(np.bincount(shown.group_of[pictures])) >= 4


def test_every_row_of_pictures_has_its_chance_beside_it(shown: Album) -> None:
    rows = {(row["code"], row["pictures"]): row for row in attacked_pictures(shown, (4, 8), 4, 0)}
    assert rows["plain", 8]["styled"] > 0.9, "the attack is real"
    assert {key: row["refused"] for key, row in rows.items()} == {
        ("plain", 4): 0, ("plain", 8): 0, ("coarse", 4): 1, ("coarse", 8): 0,
    }  # fmt: skip
    for row in rows.values():
        assert row["style"] == 1.0
        assert (row["chance"], row["informed"]) == (row["pictures"] / 500, row["pictures"] / 100)


def test_picture_codes_make_the_groups_of_the_coordinator(shown: Album) -> None:
    rows = list(grouped_pictures(shown, {8: 1, 24: 2}, 0))
    assert [row["ari"] for row in rows] == [1.0] * len(rows) == [1.0] * 12
    level = LEVELS["coarse"]
    alike = [level.encode_pictures(shown.vectors[owned(shown, 1, 16, np.random.default_rng(n))]) for n in range(12)]
    assert not picture_groups(alike, level, 0).any()


def test_the_album_is_of_the_bundles_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.attacks.pictures.bundle", picture_bundle)
    found = album(40)
    assert found is not None
    assert found.vectors.shape == (40, EMBEDDING)
    assert -1 in found.style_of
    monkeypatch.setattr("benchmarks.attacks.pictures.bundle", tiny_bundle)
    assert album(40) is None


def test_tables_of_pictures(shown: Album) -> None:
    rows = [*attacked_pictures(shown, (2, 8), 2, 0), *grouped_pictures(shown, {8: 1}, 0)]
    assert pictures({"rows": rows}).count("\n") == 5
    assert "not sent" in pictures({"rows": rows})
    assert groups_of_pictures({"rows": rows}).count("\n") == 2
    assert pictures({"rows": []}) == groups_of_pictures({"rows": []})


def test_bars_are_computed_from_rows() -> None:
    def code(name: str, captions: int, found: float, refused: int = 0) -> dict[str, Any]:
        facts = {"part": "code", "code": name, "captions": captions, "refused": refused}
        return facts | {
            "found": found, "chance": 0.01, "styled": found + 0.05, "voted": 0.08, "informed": 0.03, "one_more": 0.02,
            "one_more_chance": 0.01,
        }  # fmt: skip

    def groups(name: str, ari: float) -> dict[str, Any]:
        facts = {"part": "groups", "code": name, "devices": 8, "style words": "full", "number": "given"}
        return facts | {"ari": ari}

    rows = [
        code("plain", 16, 0.96), code("plain", 8, 0.5), code("coarse", 2, 1.0, refused=1), code("coarse", 16, 0.05),
        groups("plain", 1.0), groups("coarse", 0.97), groups("local", 0.94),
        {
            "part": "local+dp", "devices": 200, "style words": "full", "epsilon": 4, "ari": 0.96, "ari_10": 0.6,
            "too_few": 0,
        },
        {
            "part": "local attack", "code": "centroids", "devices": 8, "found": 0.02, "styled": 0.1, "voted": 0.01,
            "chance": 0.0, "informed": 0.03, "style": 0.25, "style_chance": 0.25,
        },
    ]  # fmt: skip
    assert [(bar.name, pytest.approx(bar.value), bar.holds) for bar in bars(rows)] == [
        ("plain, 16 captions: found by the attack", 0.96, True),
        ("coarse, 16 captions: found beyond chance", 0.04, True),
        ("coarse, 16 captions: styled beyond informed", 0.07, False),
        ("coarse, 16 captions: voted beyond informed", 0.05, True),
        ("coarse, 16 captions: one more named beyond chance", 0.01, True),
        ("local+dp, 200 devices, epsilon 4, full: ARI", 0.96, True),
        ("local+dp, 200 devices, epsilon 4, full: ARI, 10th percentile", 0.6, False),
        ("local, centroids, 8 devices: found beyond chance", 0.02, True),
        ("local, centroids, 8 devices: styled beyond informed", 0.07, False),
        ("local, centroids, 8 devices: voted beyond informed", -0.02, True),
        ("local, centroids, 8 devices: style beyond chance", 0.0, True),
        ("coarse, 8 devices, full, number given: ARI lost to plain", 0.03, False),
        ("local, 8 devices, full, number given: ARI lost to plain", 0.06, False),
        ("local, 8 devices, full, number given: ARI lost to coarse", 0.03, True),
    ]


def test_the_committed_results_are_of_the_full_form() -> None:
    result = json.loads(RESULTS.read_text("utf-8"))
    assert "--quick" not in result["command"]
    assert len(result["seeds"]) >= 3
    computed = {bar.name: (bar.value, bar.holds) for bar in bars(result["rows"])}
    assert computed == {bar["name"]: (bar["value"], bar["holds"]) for bar in result["bars"]}
    assert all(part(result).count("\n") > 4 for part in (codes, rivals, left))
