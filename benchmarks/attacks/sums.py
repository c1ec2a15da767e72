"""Clusters found by sums of devices' answers: what the server sees of them, and what it can tell from that.

The server has the sum of all answers to each question, the published centroids and their counts. It does not see which
answer is whose: every sum stays the same if two devices exchange their codes. So a guess about a device by name is as
good for any other device, and is scored for all of them:

    centroids            the code is taken for the centroid of the largest group
    codes without names  the code is taken for any device's: more than sums can tell about one clustering, as all of
                         them are made of these codes

Beyond that: `singled`, the share of devices whose code alone is the difference of two sums of a clustering, could the
server but know of which two; and `lost`, guesses about devices by name that are in one sum and not in the next one, of
which the difference shows the sum of codes.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from benchmarks.attacks.captions import Matrix, Numbers, Victim, World
from benchmarks.attacks.guesses import Guesses
from benchmarks.attacks.recovery import nearest, recovered, voted
from coordinator.methods.clustering.by_sums import Groups, Plan, begin, step
from edge_sdk.privacy import DIMENSIONS, FARTHEST, LEVELS, answer, check_follows, nearest_centroid, read_question
from edge_sdk.secure_aggregation import MOST_DEVICES

_CODE = LEVELS["coarse"]


@dataclass
class Seen:
    """One clustering.

    Attributes:
        groups: the result.
        labels: (n,) the group that each device chooses at the end.
        sums: number of sums.
        bytes_up, bytes_down: of the answers of one device, and of the questions that it gets.
        companies: the devices in each slot of each sum of codes, a bit for each; nobody sees that.
    """

    groups: Groups
    labels: Numbers
    sums: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    companies: set[int] = field(default_factory=set)


def clustered(
    codes: Sequence[bytes], clusters: int, rng: np.random.Generator, smallest: int = 2, lost: float = 0.0
) -> Seen:
    """Cluster devices by sums.

    Args:
        codes: their codes of level "coarse".
        clusters: number of groups; 0: found.
        rng: source of the starts, and of losses.
        smallest: least number of devices in a group.
        lost: share of the devices that are missing in each sum, others in each.
    """
    assert len(codes) <= MOST_DEVICES
    state = begin(Plan(epoch=1, clustering=1, seed=rng.bytes(16), clusters=clusters, smallest=smallest))
    seen = Seen(Groups(centroids=(), counts=(), silhouette=0.0, questions=0), np.zeros(0, np.int64))
    before = None
    while True:
        data = msgspec.msgpack.encode(state.question)
        question = read_question(data)
        check_follows(question, before)
        before = question
        there = np.sort(rng.permutation(len(codes))[: len(codes) - int(lost * len(codes))])
        answers = np.array([answer(question, codes[place]) for place in there])
        seen.sums += 1
        seen.bytes_up += answers[0].nbytes
        seen.bytes_down += len(data)
        if question.kind == "places":
            filled = answers.reshape(len(there), -1, 1 + DIMENSIONS)[:, :, 0].astype(bool)
            seen.companies |= {sum(1 << int(place) for place in there[inside]) for inside in filled.T}
        elif question.kind == "spread":
            seen.companies.add(sum(1 << int(place) for place in there))
        found = step(state, len(there), answers.sum(axis=0, dtype=np.uint32))
        if isinstance(found, Groups):
            seen.groups = found
            seen.labels = np.array([nearest_centroid(code, np.array(found.centroids)) for code in codes])
            return seen
        state = found


def singled(seen: Seen, devices: int) -> float:
    """Share of devices whose code is the difference of two sums of codes, or one of them."""
    known = seen.companies | {0}
    return statistics.fmean(
        any(company >> place & 1 and company ^ (1 << place) in known for company in seen.companies)
        for place in range(devices)
    )


def named_without_names(
    known: World, crowd: Sequence[Victim], codes: Sequence[bytes], seen: Seen, attacked: int, rng: np.random.Generator
) -> dict[str, dict[str, float]]:
    """Shares of captions, styles and groups of all devices that are told by what the server takes for their codes.

    Args:
        known: the candidates.
        crowd: the devices.
        codes: their codes.
        seen: their clustering.
        attacked: number of codes that the captions are looked for behind, at most.
        rng: chooses them, and the starts of the attack.
    """
    guesses = Guesses(known, known.basis.place(known.vectors))
    some = rng.permutation(len(codes))[:attacked]
    # Styles and groups are guessed from all codes, as guesses cost nothing.
    every = [_CODE.decode(code) for code in codes]
    largest = [np.array(seen.groups.centroids[0]) / FARTHEST]
    return {
        "centroids": told_of_anybody(known, guesses, crowd, largest, largest, rng),
        "codes without names": told_of_anybody(known, guesses, crowd, [every[place] for place in some], every, rng),
    }


def told_of_anybody(
    known: World,
    guesses: Guesses,
    crowd: Sequence[Victim],
    taken: Sequence[Matrix],
    every: Sequence[Matrix],
    rng: np.random.Generator,
) -> dict[str, float]:
    """Shares of captions, styles and groups of all devices that are told by what the server takes for their codes.

    Args:
        known: the candidates.
        guesses: guesses of style and group among them.
        crowd: the devices.
        taken: what captions are looked for behind.
        every: what style and group are guessed from.
        rng: chooses the starts of the attack.
    """
    features = known.basis.place(known.vectors)
    count, captions = len(crowd[0].captions), [set(device.captions.tolist()) for device in crowd]

    def share(names: Numbers) -> float:
        return statistics.fmean(len(own & set(names.tolist())) / count for own in captions)

    scores = []
    for code in taken:
        style = known.of_style[guesses.style(code)]
        scores.append(
            {
                "found": share(recovered(features, code, count, rng)),
                "styled": share(style[recovered(features[style], code, count, rng)]),
                "voted": share(style[voted(features[style], code, count, rng)]),
                "nearest": share(nearest(features, code, count)),
            }
        )
    styles, groups = [guesses.style(code) for code in every], [guesses.group(code) for code in every]
    return {
        **{name: statistics.mean(score[name] for score in scores) for name in scores[0]},
        "style": statistics.fmean(guess == device.style for guess in styles for device in crowd),
        "group": statistics.fmean(guess == device.group for guess in groups for device in crowd),
    }


def styles_of_lost(
    known: World, crowd: Sequence[Victim], codes: Sequence[bytes], together: int, rng: np.random.Generator
) -> float:
    """Share of devices whose style the difference of two sums tells that so many of them are missing in."""
    guesses = Guesses(known, known.basis.place(known.vectors))
    order = rng.permutation(len(crowd))
    hits = []
    for first in range(0, len(order) - together + 1, together):
        some = order[first : first + together]
        difference = np.sum([_CODE.decode(codes[place]) for place in some], axis=0)
        hits += [guesses.style(difference / together) == crowd[place].style for place in some]
    return statistics.fmean(hits)
