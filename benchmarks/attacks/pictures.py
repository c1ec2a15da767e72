"""Picture codes attacked: which pictures of an album are a device's, and the groups that the codes leave.

The attacker sees one code of each device, has the bundle's image encoder, and holds an album of pictures, all of the
device's among them. Nobody holds such an album of everybody's pictures, as one may of captions: this is the worst case,
and its figures say what trying a known picture tells.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import adjusted_rand_score

from benchmarks.attacks.captions import Matrix, Numbers
from benchmarks.attacks.recovery import recovered, voted
from benchmarks.shared.harness import Row
from benchmarks.shared.stickers import bundle
from coordinator.learning import Standing, positions
from coordinator.methods.clustering import CLUSTERERS, Evidence, compare, partition
from edge_sdk.inference import Generator
from edge_sdk.privacy import LEAVING, Level
from samples.stickers import data
from samples.stickers.styles import STYLES

PICTURES = 16  # of a device whose code is clustered


@dataclass(frozen=True)
class Album:
    """Pictures, embedded by the image encoder of the stickers base model.

    Attributes:
        vectors: (pictures, dim) their embeddings.
        styles: names of the devices' styles.
        style_of: (pictures,) number of a picture's style; -1: one of no device's.
        group_of: (pictures,) number of its group of subjects.
    """

    vectors: Matrix
    styles: Sequence[str]
    style_of: Numbers
    group_of: Numbers


def album(pictures: int | None = None) -> Album | None:
    """Return the archive's pictures, or so many of them; None if the base model has no image encoder."""
    stickers = data.read()
    if pictures is not None:
        stickers = [stickers[at] for at in data.spread(len(stickers), pictures)]
    styles = [style.name for style in STYLES.values() if not style.base]
    groups = sorted({sticker.group for sticker in stickers})
    with Generator.load(bundle(), threads=1, verify=False, prepare=False) as generator:
        if not generator.encodes_pictures:
            return None
        vectors = generator.encode_picture(data.images(stickers))
    return Album(
        vectors=vectors.astype(np.float64),
        styles=styles,
        style_of=np.array([styles.index(sticker.style) if sticker.style in styles else -1 for sticker in stickers]),
        group_of=np.array([groups.index(sticker.group) for sticker in stickers]),
    )


def owned(known: Album, style: int, count: int, rng: np.random.Generator) -> Numbers:
    """Return the pictures of a device: all of its style, half of them of its favourite group of subjects."""
    own = np.flatnonzero(known.style_of == style)
    sizes = np.bincount(known.group_of[own])
    group = int(rng.choice(np.flatnonzero(sizes >= count // 2)))
    favourites = rng.permutation(own[known.group_of[own] == group])[: count // 2]
    others = rng.permutation(np.setdiff1d(own, favourites))[: count - len(favourites)]
    return np.concatenate([favourites, others])


def attacked_pictures(known: Album, counts: Sequence[int], devices: int, seed: int) -> Iterator[Row]:
    """Rows of each level, by number of pictures.

    found: share of a device's pictures among as many that the attack names; styled, voted: the same among the pictures
    of the guessed style (`attacks.recovery`); style: share of devices whose style is guessed. chance, style_chance: of
    any pictures, of any style; informed: of any pictures of the device's style.
    """
    for level in LEAVING.values():
        for count in counts:
            rng = np.random.default_rng([seed, 4, count])
            scores = [_scores(known, level, number % len(known.styles), count, rng) for number in range(devices)]
            yield {
                "part": "pictures",
                "code": level.name,
                "pictures": count,
                **{name: statistics.mean(score[name] for score in scores) for name in scores[0]},
                "chance": count / len(known.vectors),
                "style_chance": 1 / len(known.styles),
                "refused": int(count < level.fewest),
            }


def grouped_pictures(known: Album, crowds: Mapping[int, int], seed: int) -> Iterator[Row]:
    """Rows of the groups that the clusterer `picture` finds; crowds: number of devices -> federations."""
    for devices, federations in crowds.items():
        for federation in range(federations):
            rng = np.random.default_rng([seed, 5, devices, federation])
            truth = [number % len(known.styles) for number in range(devices)]
            own = [owned(known, style, PICTURES, rng) for style in truth]
            for level in LEAVING.values():
                codes = [level.encode_pictures(known.vectors[pictures]) for pictures in own]
                for number, clusters in (("given", len(known.styles)), ("found", 0)):
                    found = picture_groups(codes, level, clusters)
                    facts = {"part": "picture groups", "code": level.name, "devices": devices, "number": number}
                    yield facts | {"ari": float(adjusted_rand_score(truth, found))}


def picture_groups(codes: Sequence[bytes], level: Level, clusters: int) -> Numbers:
    """Return the group of each device, as the coordinator finds it by picture codes; clusters 0: any number."""
    pictures = positions(codes, [Standing.SEEN] * len(codes), level)
    evidence = Evidence(np.ones((len(codes), 1)), (), 0, pictures=pictures)
    clusterer = CLUSTERERS["picture"]()
    crowd = compare(evidence, clusterer(evidence))
    return partition(crowd, clusters=clusters) if clusters else clusterer.labels(crowd, 0)


def _scores(known: Album, level: Level, style: int, count: int, rng: np.random.Generator) -> dict[str, float]:
    pictures = owned(known, style, count, rng)
    code = level.decode_pictures(level.encode_pictures(known.vectors[pictures]))
    features, own = known.vectors[:, : len(code)], set(pictures.tolist())
    centres = [features[known.style_of == number].mean(axis=0) for number in range(len(known.styles))]
    guessed = int(np.linalg.norm(np.array(centres) - code, axis=1).argmin())
    alike = np.flatnonzero(known.style_of == guessed)
    return {
        "found": len(own & set(recovered(features, code, count, rng).tolist())) / count,
        "styled": len(own & set(alike[recovered(features[alike], code, count, rng)].tolist())) / count,
        "voted": len(own & set(alike[voted(features[alike], code, count, rng)].tolist())) / count,
        "style": float(guessed == style),
        "informed": count / int((known.style_of == style).sum()),
    }
