"""The captions of an attack: candidates that the attacker holds, and devices whose captions are among them.

A device has one style and one favourite group of subjects, from which half of its captions come. Its captions are
"black ink stamp of a fox", or "a fox" where it does not name its style. Candidates are every subject in every device's
style and without any, and then as many captions of the base model's styles as are asked for.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.shared.harness import KEPT
from benchmarks.shared.stickers import MODEL, base_id, bundle
from edge_sdk import durable
from edge_sdk.codes import basis_of
from edge_sdk.inference import Generator
from edge_sdk.privacy import Basis, unit_length
from samples.stickers import data
from samples.stickers.base_styles import BASE_STYLES
from samples.stickers.styles import STYLES, caption, plain_caption

Matrix: TypeAlias = npt.NDArray[np.float64]
Numbers: TypeAlias = npt.NDArray[np.int64]
BARE = "bare"
_PLACE = KEPT / "privacy"


@dataclass(frozen=True)
class World:
    """Candidates, embedded by the stickers base model.

    Attributes:
        captions: the candidates.
        vectors: (candidates, dim) their embeddings, at unit length.
        styles: names of the devices' styles.
        groups: names of the groups of subjects.
        style_of: (candidates,) number of a candidate's style; len(styles): it names none; -1: one of no device's.
        subject_of: (candidates,) number of its subject.
        group_of: (candidates,) number of its group of subjects.
        basis: the bundle's public basis.
        public: (n, dim) embeddings of the public captions that the basis is made of.
    """

    captions: Sequence[str]
    vectors: Matrix
    styles: Sequence[str]
    groups: Sequence[str]
    style_of: Numbers
    subject_of: Numbers
    group_of: Numbers
    basis: Basis
    public: Matrix

    @functools.cached_property
    def of_style(self) -> dict[int, Numbers]:
        """Candidates of each style, by subject; those that name none under len(styles)."""
        found = {}
        for style in range(len(self.styles) + 1):
            own = np.flatnonzero(self.style_of == style)
            found[style] = own[np.argsort(self.subject_of[own])]
        return found


@dataclass(frozen=True)
class Victim:
    """A device under attack.

    Attributes:
        style, group: numbers of its style and of its favourite group of subjects.
        captions: (m,) the candidates that are its captions, all different.
    """

    style: int
    group: int
    captions: Numbers


def world(candidates: int, subjects: int | None = None) -> World:
    """Return the world with so many candidates; subjects: only so many of them, spread over all groups."""
    from export.public_captions import captions_for

    stickers = {sticker.subject: sticker for sticker in data.read()}
    names = sorted(stickers)
    if subjects is not None:
        names = [names[at] for at in data.spread(len(names), subjects)]
    groups = sorted({stickers[name].group for name in names})
    devices = [style for style in STYLES.values() if not style.base]
    rows: list[tuple[str, int, int]] = []
    for number, style in enumerate(devices):
        rows += [(caption(style, name), number, subject) for subject, name in enumerate(names)]
    rows += [(plain_caption(name), len(devices), subject) for subject, name in enumerate(names)]
    others = [
        (f"{words} of {plain_caption(name)}", -1, subject)
        for style in BASE_STYLES.values()
        for words in style.wordings
        for subject, name in enumerate(names)
    ]
    left = max(0, min(candidates - len(rows), len(others)))
    rows += [others[at] for at in data.spread(len(others), left)]
    texts = [text for text, _, _ in rows]
    with Generator.load(bundle(), threads=1, verify=False, prepare=False) as generator:
        basis = basis_of(generator)
        assert basis is not None, "the bundle was exported by this version"
        vectors = _embedded(generator, texts)
        public = _embedded(generator, [text for style in captions_for(MODEL) for text in style])
    subject_of = np.array([subject for _, _, subject in rows])
    of_subject = np.array([groups.index(stickers[name].group) for name in names])
    return World(
        captions=texts,
        vectors=vectors,
        styles=[style.name for style in devices],
        groups=groups,
        style_of=np.array([style for _, style, _ in rows]),
        subject_of=subject_of,
        group_of=of_subject[subject_of],
        basis=basis,
        public=public,
    )


def victim(known: World, style: int, count: int, rng: np.random.Generator, named: float = 1.0) -> Victim:
    """Return a device of a style with so many captions, of which the share `named` names the style."""
    group_of_subject = known.group_of[known.of_style[0]]
    sizes = np.bincount(group_of_subject, minlength=len(known.groups))
    group = int(rng.choice(np.flatnonzero(sizes >= count // 2)))
    favourites = rng.permutation(np.flatnonzero(group_of_subject == group))[: count // 2]
    others = rng.permutation(np.setdiff1d(np.arange(len(group_of_subject)), favourites))[: count - len(favourites)]
    subjects = rng.permutation(np.concatenate([favourites, others]))
    words = np.arange(count) < round(named * count)
    bare = len(known.styles)
    captions = np.where(words, known.of_style[style][subjects], known.of_style[bare][subjects])
    return Victim(style, group, captions)


def _embedded(generator: Generator, texts: Sequence[str]) -> Matrix:
    """Return embeddings at unit length, kept by the base model and the texts."""
    key = hashlib.sha256(json.dumps([base_id(), list(texts)]).encode()).hexdigest()[:20]
    file = _PLACE / f"{key}.f32"
    if not file.exists():
        found = unit_length(lambda part: generator.encode_prompt(part)[1], texts)
        file.parent.mkdir(parents=True, exist_ok=True)
        durable.write(file, found.astype("<f4").tobytes())
    return np.fromfile(file, "<f4").reshape(len(texts), -1).astype(np.float64)
