"""Codes attacked: the captions, pictures, style and subjects that they give away, and the groups that they leave.

    python -m benchmarks.privacy [--quick] [--seed N] [--json FILE]

Each piece of a run is kept in the system's temporary folder, and FILE is written after each part: a stopped run
resumes. Parts that FILE has, of the same base model and seeds, are not measured again: another FILE has all anew.

The attacker is the server alone: it sees one code of each device, knows the text encoder and the public basis, and
holds 10,000 candidate captions, all of the device's among them. Devices have one of four styles and a favourite group
of subjects, from which half of their captions come; 2 to 32 captions, all different, whose number the profile states.

found: share of a device's captions among as many candidates that the attack names (`attacks.recovery`); styled: the
same among the captions of the guessed style only, from many starts; voted: of these, the captions in most of the sets
that fit best; nearest: the same of the candidates of highest cosine. chance: the same of any candidates; informed: of
any captions of the device's style, half of them of its favourite group, which is what somebody can name who knows these
two and no more. style, group: share of devices whose style and favourite group are guessed; style_chance, group_chance:
one in so many. Levels refuse fewer captions than they need (`refused`): their rows show why.

one_more: the device sends a second code after it got one more picture; share of devices whose new caption the
difference of both codes names, among those of its style; one_more_chance: one in so many.

Rivals that are not shipped stand beside: level coarse in all steps of a byte; a secret rotation of plain codes, of
which some devices that collude tell their captions; and signs of projections (`attacks.rivals`).

ARI is the adjusted Rand index of the coordinator's groups against the four styles, before any training: with their
number given, and found by the default rule. `one`: share of federations of a single style in which the rule finds one
group. Rivals of level coarse: its basis of principal components, and its numbers rounded to the nearest step.

Level "local": devices choose their clusters among broadcast centroids, by the same codes as those of
level coarse, and the server sees sums of their answers only (`attacks.sums`). sums, bytes_up, bytes_down: of one
clustering and device. ari_lost: if 30 % are missing in each sum, others in each. ari_three: no groups below three, as
masked sums ask for.

Level "local+dp": the same by four sums with noise (`attacks.noisy_sums`), which keep an epsilon, with delta 1e-5. ari,
ari_10: mean and 10th percentile over the federations; too_few: federation files are refused with so few devices.

If the base model has an image encoder, its picture codes are attacked and grouped as well (`attacks.pictures`).
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from rich.progress import track

from benchmarks.attacks.captions import Matrix, Victim, World, victim, world
from benchmarks.attacks.grouping import agreement, found_groups
from benchmarks.attacks.guesses import Guesses
from benchmarks.attacks.noisy_sums import clustered_with_noise, told_by_centroids
from benchmarks.attacks.pictures import album, attacked_pictures, grouped_pictures
from benchmarks.attacks.recovery import nearest, recovered, voted
from benchmarks.attacks.rivals import Colluders, Rotation, SignHash, principal_components
from benchmarks.attacks.sums import clustered, named_without_names, singled, styles_of_lost
from benchmarks.shared.harness import KEPT, Bar, Report, Row, arguments, cached, value_of
from benchmarks.shared.runs import key_of
from benchmarks.shared.stickers import base_id
from coordinator.methods.clustering.by_noisy_sums import fewest_devices
from edge_sdk.privacy import LEAVING, LEVELS, Basis, Coarse, Guarantee, Level

PLACE = KEPT / "privacy"
SEEDS = 3
CAPTIONS = (2, 4, 6, 8, 16, 32)
JUDGED = 16  # captions of a device in all other rows
PAIRS = (0, 8, 32, 64, 128, 192, 256, 512)
BITS = (8, 64, 256)
CROWDS = {8: 10, 48: 4, 200: 2}  # devices -> federations a seed
NAMED = {"full": 1.0, "half": 0.5}  # share of captions that name the style
STYLES = 4
# Part of the rows -> name -> codes that are attacked alike.
CODES: Mapping[str, Mapping[str, Level]] = {"code": LEAVING, "eight bits": {"coarse in 8 bits": Coarse(127)}}
LEAST_FOUND, MOST_ABOVE_CHANCE, MOST_LOST = 0.95, 0.05, 0.02
MOST_LOST_BY_SUMS = 0.05  # of level local, to plain and to coarse
MISSING = 0.3  # in each sum
EPSILONS, DELTA = (1, 4, 8), 1e-5
FEDERATIONS = 8  # a seed, with noise
# Devices, epsilon, captions with style words -> least ARI on average, and its least 10th percentile, of level local+dp.
LEAST_ARI: Mapping[tuple[int, int, str], tuple[float, float | None]] = {
    (200, 4, "full"): (0.95, 0.7), (200, 4, "half"): (0.7, None), (500, 1, "full"): (0.9, None),
}  # fmt: skip
TOGETHER = (1, 3, 8)  # devices that are missing at once in one sum and not in the one before


@dataclass(frozen=True)
class Size:
    """Size of a run: candidates, subjects, pictures (None: all), devices attacked a row and seed, kinds of rows.

    noisy: devices of federations whose sums have noise; federations: their number, a seed.
    """

    candidates: int
    subjects: int | None
    pictures: int | None
    devices: int
    captions: Sequence[int]
    pairs: Sequence[int]
    bits: Sequence[int]
    crowds: Sequence[int]
    noisy: Sequence[int]
    federations: int


FULL = Size(10_000, None, None, 12, CAPTIONS, PAIRS, BITS, tuple(CROWDS), (48, 100, 200, 500), FEDERATIONS)
QUICK = Size(1000, 120, 600, 2, (2, 8, 16), (0, 8, 192), (8,), (8,), (48,), 2)


def main(given: Sequence[str] | None = None) -> None:
    """Measure and report."""
    assert __doc__ is not None
    chosen = arguments(__doc__.splitlines()[0], given)
    size = QUICK if chosen.quick else FULL
    seeds = [chosen.seed + number for number in range(1 if chosen.quick else SEEDS)]
    report = Report(chosen, seeds)
    known = world(size.candidates, size.subjects)
    before = earlier(chosen.json, seeds, base_id(), quick=chosen.quick)
    parts = {part: [row for row in before if _part_of(row) == part] for part in _KINDS}
    for part, cells in _cells(known, size, seeds).items():
        if not parts[part]:
            rows = [row for cell, measure in track(cells, description=part) for row in _kept(cell, size, measure)]
            parts[part] = rows if part == "groups with noise" else _means(rows)
        report.rows = [{"part": "base model", "id": base_id()}, *(row for rows in parts.values() for row in rows)]
        report.bars = bars(report.rows)
        report.write()
    if shown := album(size.pictures):
        crowds = {devices: CROWDS[devices] for devices in size.crowds}
        for rows in (
            (row for seed in seeds for row in attacked_pictures(shown, size.captions, size.devices, seed)),
            (row for seed in seeds for row in grouped_pictures(shown, crowds, seed)),
        ):
            report.rows += _means(track(rows, description="pictures"))
    report.bars = bars(report.rows)
    report.finish()


# Part of a run -> parts of its rows.
_KINDS: Mapping[str, tuple[str, ...]] = {
    "codes": tuple(CODES),
    "rivals": ("rival",),
    "groups": ("groups", "no groups", "rival groups", "no rival groups"),
    "sums": ("local", "local attack", "local lost"),
    "groups with noise": ("local+dp",),
    "noise attacked": ("local+dp attack",),
}
_Cell: TypeAlias = tuple[str, Callable[[], Iterable[Row]]]


def _cells(known: World, size: Size, seeds: Sequence[int]) -> dict[str, list[_Cell]]:
    """The parts of the study, in pieces of some seconds to minutes, each with a name that tells its settings."""

    def of(name: str, measure: Callable[..., Iterable[Row]], *given: object) -> _Cell:
        return name, lambda: measure(known, *given)

    def some(devices: int) -> Size:
        return replace(size, crowds=(devices,), noisy=(devices,))

    return {
        "codes": [
            of(f"{part} {name} {seed}", attacked, part, name, level, size, seed)
            for seed in seeds
            for part, levels in CODES.items()
            for name, level in levels.items()
        ],
        "rivals": [of(f"{rival.__name__} {seed}", rival, size, seed) for seed in seeds for rival in (rotated, hashed)],
        "groups": [of(f"groups {seed}", grouped, size, seed) for seed in seeds],
        "groups with noise": [
            of(f"noise {devices} {list(seeds)}", with_noise, some(devices), seeds) for devices in size.noisy
        ],
        "noise attacked": [
            of(f"noise attacked {devices} {seed}", noise_attacked, some(devices), seed)
            for seed in seeds
            for devices in size.noisy
        ],
        "sums": [
            of(f"sums {devices} {seed}", by_sums, some(devices), seed) for seed in seeds for devices in size.crowds
        ],
    }


def earlier(file: Path | None, seeds: Sequence[int], base: str, *, quick: bool) -> list[Row]:
    """The rows of an earlier run in a file; none if it was of another base model, other seeds or another size."""
    if file is None or not file.exists():
        return []
    found = json.loads(file.read_text("utf-8"))
    rows: list[Row] = found["rows"]
    models = [row["id"] for row in rows if row["part"] == "base model"]
    same = (models, found["seeds"], "--quick" in found["command"]) == ([base], list(seeds), quick)
    return rows if same else []


def _part_of(row: Row) -> str | None:
    """The part that a row belongs to, by its name in `_cells`."""
    if row.get("code") == "local":
        return "sums"
    for part, kinds in _KINDS.items():
        if row["part"] in kinds:
            return part
    return None


def _kept(cell: str, size: Size, measure: Callable[[], Iterable[Row]]) -> list[Row]:
    """The rows of a piece, kept by its name, the size of the run and the base model."""
    file = PLACE / f"{key_of({'base': base_id(), 'cell': cell, 'size': asdict(size)})}.json"
    rows: list[Row] = cached(file, lambda: [dict(row) for row in measure()])
    return rows


def bars(rows: Sequence[Row]) -> list[Bar]:
    """Bars: the attack is real on plain codes, fails on coarse ones, and these leave the groups."""
    found = [
        Bar(f"plain, {JUDGED} captions: found by the attack", value_of(row, "found"), LEAST_FOUND, "at least")
        for row in rows
        if row["part"] == "code" and (row["code"], row["captions"]) == ("plain", JUDGED)
    ]
    for row in rows:
        if row["part"] == "code" and row["code"] != "plain" and not row["refused"]:
            name = f"{row['code']}, {row['captions']} captions"
            found += _beyond(name, row, "one more named", "one_more", "one_more_chance")
        if row["part"] == "local attack":
            name = f"local, {row['code']}, {row['devices']} devices"
            found += _beyond(name, row, "style", "style", "style_chance")
        if row["part"] == "local+dp attack":
            name = f"local+dp, {row['code']}, {row['devices']} devices, epsilon {row['epsilon']}"
            found += _beyond(name, row, "style", "style", "style_chance")
        if row["part"] == "local+dp":
            found += _left_by_noise(row)
    groups = {
        (row["code"], row["devices"], row["style words"], row["number"]): row
        for row in rows
        if {"ari", "number"} <= row.keys()
    }
    for (code, devices, words, number), row in groups.items():
        if code != "plain" and row["part"] == "groups":
            for other in ("plain", "coarse") if code == "local" else ("plain",):
                lost = value_of(groups[other, devices, words, number], "ari") - value_of(row, "ari")
                most = MOST_LOST_BY_SUMS if code == "local" else MOST_LOST
                name = f"{code}, {devices} devices, {words}, number {number}: ARI lost to {other}"
                found.append(Bar(name, lost, most))
    return found


def _beyond(name: str, row: Row, what: str, hit: str, chance: str) -> list[Bar]:
    """Bars: captions are found no more often than by those who know less, and neither is `what`, in the cell `hit`."""
    compared = (
        ("found beyond chance", "found", "chance"),
        ("styled beyond informed", "styled", "informed"),
        ("voted beyond informed", "voted", "informed"),
        (f"{what} beyond chance", hit, chance),
    )
    return [
        Bar(f"{name}: {title}", value_of(row, one) - value_of(row, other), MOST_ABOVE_CHANCE)
        for title, one, other in compared
    ]


def _left_by_noise(row: Row) -> list[Bar]:
    """Bars: the groups that noise leaves."""
    case = row["devices"], row["epsilon"], row["style words"]
    if case not in LEAST_ARI:
        return []
    name = f"local+dp, {row['devices']} devices, epsilon {row['epsilon']}, {row['style words']}: ARI"
    least, least_10 = LEAST_ARI[case]  # type: ignore[index]
    found = [Bar(name, value_of(row, "ari"), least, "at least")]
    if least_10 is not None:
        found.append(Bar(f"{name}, 10th percentile", value_of(row, "ari_10"), least_10, "at least"))
    return found


def attacked(known: World, part: str, name: str, level: Level, size: Size, seed: int) -> Iterator[Row]:
    """Rows of one kind of codes: the server alone, by number of captions."""
    features = _own_codes(known, level)
    guesses = Guesses(known, features)
    for count in size.captions:
        rng = np.random.default_rng([seed, count])
        scores = []
        for device in _victims(known, count, size.devices, rng):
            code = level.decode(level.encode(known.vectors[device.captions], known.basis))
            scores.append(_scores(known, features, guesses, device, code, rng))
        later = [
            _named_later(known, features, guesses, level, one)
            for one in _victims(known, count + 1, 4 * size.devices, rng)
        ]
        yield _row(part, name, known, count, scores) | {
            "one_more": statistics.mean(later),
            "one_more_chance": 1 / len(known.of_style[0]),
            "refused": int(count < level.fewest),
        }


def rotated(known: World, size: Size, seed: int) -> Iterator[Row]:
    """Rows of a secret rotation, by number of known pairs."""
    rng = np.random.default_rng([seed, 1])
    rotation = Rotation(known.vectors.shape[1], rng)
    helpers = [known.vectors[one.captions].mean(axis=0) for one in _victims(known, JUDGED, max(size.pairs), rng)]
    devices = _victims(known, JUDGED, size.devices, rng)
    for pairs in size.pairs:
        means = np.array(helpers[:pairs]).reshape(pairs, known.vectors.shape[1])
        scores = []
        if pairs:
            colluders = Colluders(means, rotation.code(means))
            features = colluders.features(known.vectors)
            guesses = Guesses(known, features)
        for device in devices:
            code = rotation.code(known.vectors[device.captions].mean(axis=0))
            if pairs:
                scores.append(_scores(known, features, guesses, device, colluders.coordinates(code), rng))
            else:  # without any pair nothing is known of the rotation: guesses are blind
                scores.append(_blind(known, device, rng))
        yield _row("rival", f"secret rotation, {pairs} known pairs", known, JUDGED, scores)


def hashed(known: World, size: Size, seed: int) -> Iterator[Row]:
    """Rows of sign hashes, by number of bits: attacks, and the groups that 48 devices' hashes still make."""
    for bits in size.bits:
        rng = np.random.default_rng([seed, 2, bits])
        hashes = SignHash(known.basis.mean, bits, rng)
        features = hashes.features(known.vectors)
        guesses = Guesses(known, features)
        scores = []
        for device in _victims(known, JUDGED, size.devices, rng):
            mean = known.vectors[device.captions].mean(axis=0)
            usual = np.abs(features[rng.choice(len(features), JUDGED)].mean(axis=0)).mean()  # a sign has no length
            scores.append(_scores(known, features, guesses, device, usual * hashes.code(mean), rng))
        truth, crowd = _crowd(known, 48, 1.0, rng)
        codes = [hashes.code(known.vectors[one.captions].mean(axis=0)).astype("<f4").tobytes() for one in crowd]
        ari = agreement(truth, found_groups(codes, LEVELS["plain"], STYLES))
        yield _row("rival", f"sign hash, {bits} bits", known, JUDGED, scores) | {"ari_48": ari}


def grouped(known: World, size: Size, seed: int) -> Iterator[Row]:
    """Rows of the groups that the coordinator finds, of the levels and of rivals of level coarse."""
    coarse, nearest_step = LEVELS["coarse"], Coarse(uniform=lambda count: np.full(count, 0.5))
    ways = [
        *(("groups", name, level, known.basis) for name, level in LEAVING.items()),
        ("rival groups", "principal components", coarse, principal_components(known.public)),
        ("rival groups", "nearest step", nearest_step, known.basis),
    ]
    for devices in size.crowds:
        for words, named in NAMED.items():
            for federation in range(CROWDS[devices]):
                rng = np.random.default_rng([seed, 3, devices, federation])
                truth, crowd = _crowd(known, devices, named, rng)
                alike = [victim(known, federation % STYLES, JUDGED, rng, named) for _ in range(devices)]
                for part, name, level, basis in ways:
                    facts = {"part": part, "code": name, "devices": devices, "style words": words}
                    codes = _codes(known, level, basis, crowd)
                    for number, clusters in (("given", STYLES), ("found", 0)):
                        ari = agreement(truth, found_groups(codes, level, clusters))
                        yield facts | {"number": number, "ari": ari}
                    one = found_groups(_codes(known, level, basis, alike), level, 0).max() == 0
                    yield facts | {"part": f"no {part}", "one": float(one)}


def by_sums(known: World, size: Size, seed: int) -> Iterator[Row]:
    """Rows of level local: the groups that are found by sums, their costs, and attacks on what the server sees."""
    coarse = LEVELS["coarse"]
    for devices in size.crowds:
        for words, named in NAMED.items():
            for federation in range(CROWDS[devices]):
                rng = np.random.default_rng([seed, 3, devices, federation])
                truth, crowd = _crowd(known, devices, named, rng)
                alike = [victim(known, federation % STYLES, JUDGED, rng, named) for _ in range(devices)]
                facts = {"devices": devices, "style words": words}
                codes = _codes(known, coarse, known.basis, crowd)
                for number, clusters in (("given", STYLES), ("found", 0)):
                    seen = clustered(codes, clusters, rng)
                    ari = agreement(truth, seen.labels)
                    yield {"part": "groups", "code": "local", **facts, "number": number, "ari": ari}
                    yield {
                        "part": "local", **facts, "number": number, "sums": float(seen.sums),
                        "bytes_up": float(seen.bytes_up), "bytes_down": float(seen.bytes_down),
                        "ari_lost": agreement(truth, clustered(codes, clusters, rng, lost=MISSING).labels),
                        "ari_three": agreement(truth, clustered(codes, clusters, rng, smallest=3).labels),
                        "singled": singled(seen, devices),
                    }  # fmt: skip
                one = not clustered(_codes(known, coarse, known.basis, alike), 0, rng).labels.any()
                yield {"part": "no groups", "code": "local", **facts, "one": float(one)}
        rng = np.random.default_rng([seed, 4, devices])
        _, crowd = _crowd(known, devices, 1.0, rng)
        codes = _codes(known, coarse, known.basis, crowd)
        views = named_without_names(known, crowd, codes, clustered(codes, 0, rng), size.devices, rng)
        for view, scores in views.items():
            scores["informed"] = statistics.mean(_informed(known, device) for device in crowd)
            yield _row("local attack", view, known, JUDGED, [scores]) | {"devices": devices}
        for together in TOGETHER:
            style = styles_of_lost(known, crowd, codes, together, rng)
            yield {"part": "local lost", "devices": devices, "together": together, "style": style}


def with_noise(known: World, size: Size, seeds: Sequence[int]) -> list[Row]:
    """Rows of level local+dp: the groups that are found by sums with noise."""
    found: list[Row] = []
    for devices in size.noisy:
        for words, named in NAMED.items():
            values: dict[int, list[float]] = {epsilon: [] for epsilon in EPSILONS}
            for seed in seeds:
                for federation in range(size.federations):
                    rng = np.random.default_rng([seed, 5, devices, federation])
                    truth, crowd = _crowd(known, devices, named, rng)
                    codes = _codes(known, LEVELS["coarse"], known.basis, crowd)
                    for epsilon, own in values.items():
                        guarantee = Guarantee(epsilon=epsilon, delta=DELTA)
                        own.append(agreement(truth, clustered_with_noise(codes, STYLES, guarantee, rng)[1]))
            found += [
                {
                    "part": "local+dp", "devices": devices, "style words": words, "epsilon": epsilon,
                    "federations": len(own), "ari": statistics.mean(own), "ari_10": float(np.percentile(own, 10)),
                    "too_few": int(devices < fewest_devices(epsilon)),
                }
                for epsilon, own in values.items()
            ]  # fmt: skip
    return found


def noise_attacked(known: World, size: Size, seed: int) -> Iterator[Row]:
    """Rows of the attack on the centroids of level local+dp, with the fewest devices for each epsilon."""
    for devices in size.noisy:
        rng = np.random.default_rng([seed, 6, devices])
        _, crowd = _crowd(known, devices, 1.0, rng)
        codes = _codes(known, LEVELS["coarse"], known.basis, crowd)
        for epsilon in EPSILONS:
            if devices == fewest_devices(epsilon):
                guarantee = Guarantee(epsilon=epsilon, delta=DELTA)
                groups, _ = clustered_with_noise(codes, STYLES, guarantee, rng)
                scores = told_by_centroids(known, crowd, groups, rng)
                scores["informed"] = statistics.mean(_informed(known, device) for device in crowd)
                row = _row("local+dp attack", "centroids", known, JUDGED, [scores])
                yield row | {"devices": devices, "epsilon": epsilon}


def _victims(known: World, count: int, devices: int, rng: np.random.Generator) -> list[Victim]:
    return [victim(known, number % STYLES, count, rng) for number in range(devices)]


def _crowd(known: World, devices: int, named: float, rng: np.random.Generator) -> tuple[list[int], list[Victim]]:
    truth = [number % STYLES for number in range(devices)]
    return truth, [victim(known, style, JUDGED, rng, named) for style in truth]


def _codes(known: World, level: Level, basis: Basis, crowd: Iterable[Victim]) -> list[bytes]:
    return [level.encode(known.vectors[device.captions], basis) for device in crowd]


def _own_codes(known: World, level: Level) -> Matrix:
    """Numbers of which a device's code is the mean, but for clipping and rounding: (candidates, k)."""
    return known.basis.place(known.vectors) if level.needs_basis else known.vectors


def _scores(
    known: World, features: Matrix, guesses: Guesses, device: Victim, code: Matrix, rng: np.random.Generator
) -> dict[str, float]:
    count, own = len(device.captions), set(device.captions.tolist())
    style = known.of_style[guesses.style(code)]
    return {
        "found": len(own & set(recovered(features, code, count, rng).tolist())) / count,
        "styled": len(own & set(style[recovered(features[style], code, count, rng)].tolist())) / count,
        "voted": len(own & set(style[voted(features[style], code, count, rng)].tolist())) / count,
        "nearest": len(own & set(nearest(features, code, count).tolist())) / count,
        "style": float(guesses.style(code) == device.style),
        "group": float(guesses.group(code) == device.group),
        "informed": _informed(known, device),
    }


def _named_later(known: World, features: Matrix, guesses: Guesses, level: Level, device: Victim) -> float:
    """1 if the last caption of a device is named by the codes with and without it."""
    before, after = (
        level.decode(level.encode(known.vectors[captions], known.basis))
        for captions in (device.captions[:-1], device.captions)
    )
    count = len(device.captions)
    style = known.of_style[guesses.style(after)]
    gained = count * after - (count - 1) * before
    return float(style[np.linalg.norm(features[style] - gained, axis=1).argmin()] == device.captions[-1])


def _informed(known: World, device: Victim) -> float:
    """Expected share of a device's captions among as many of its style, chosen at random as its own were."""
    subjects = known.group_of[known.of_style[0]]
    inside, count = int((subjects == device.group).sum()), len(device.captions)
    half = count // 2
    return (half * half / inside + (count - half) ** 2 / (len(subjects) - half)) / count


def _blind(known: World, device: Victim, rng: np.random.Generator) -> dict[str, float]:
    count, own = len(device.captions), set(device.captions.tolist())
    any_of_them = [len(own & set(rng.choice(len(known.captions), count, replace=False).tolist())) for _ in range(4)]
    return {
        "found": any_of_them[0] / count,
        "styled": any_of_them[1] / count,
        "voted": any_of_them[2] / count,
        "nearest": any_of_them[3] / count,
        "style": float(rng.integers(len(known.styles)) == device.style),
        "group": float(rng.integers(len(known.groups)) == device.group),
        "informed": _informed(known, device),
    }


def _row(
    part: str, code: str, known: World, count: int, scores: Sequence[dict[str, float]]
) -> dict[str, str | int | float]:
    means = {name: statistics.mean(score[name] for score in scores) for name in scores[0]}
    return {
        "part": part,
        "code": code,
        "captions": count,
        **means,
        "chance": count / len(known.captions),
        "style_chance": 1 / len(known.styles),
        "group_chance": 1 / len(known.groups),
    }


def _means(rows: Iterable[Row]) -> list[Row]:
    """One row for all seeds and federations: means of its figures."""
    same: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        same.setdefault(tuple(value for value in row.values() if not isinstance(value, float)), []).append(row)
    return [
        {
            name: statistics.mean(value_of(row, name) for row in found) if isinstance(value, float) else value
            for name, value in found[0].items()
        }
        for found in same.values()
    ]


if __name__ == "__main__":
    main()
