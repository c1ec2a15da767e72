"""The judge: a small classifier of style and subgroup that scores generated stickers.

It needs onnxruntime and numpy only. `samples.stickers.judging` trains it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image

FOLDER = Path(__file__).parent / "judge"
CARD = "judge.json"
# The sheets, the demo and the benchmarks draw with this value, too.
GUIDANCE = 4.0
# Name of each network -> its kind, and the factor by which its training shows a picture in a device style more often
# than another. The second shallow network tells the styles of a pair better: .59 against .53 without it.
NETWORKS = {"deep": ("deep", 3.0), "shallow": ("shallow", 3.0), "shallow-even": ("shallow", 1.0)}


@dataclass(frozen=True)
class Verdict:
    """Shares of pictures, 0 to 1: style as asked, subgroup as asked, and both in one picture."""

    style_hit: float
    subject_hit: float
    both_hit: float


@dataclass(frozen=True)
class PairVerdict:
    """Shares of pictures that were asked for in two styles, 0 to 1.

    styles_hit: the judge's first two styles are the two asked for; subject_hit: the subgroup is right; all_hit: both.
    """

    styles_hit: float
    subject_hit: float
    all_hit: float


class Judge:
    """Tells the style and the emojibase subgroup of 64 x 64 pictures.

    A deep network names the subgroup; the style comes from it and two shallow ones together. All look at the picture
    and at its mirror image.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        labels = json.loads((folder / CARD).read_text("utf-8"))
        self.styles: list[str] = labels["styles"]
        self.subgroups: list[str] = labels["subgroups"]
        self._nets = [
            onnxruntime.InferenceSession(folder / f"{net}.onnx", providers=["CPUExecutionProvider"]) for net in NETWORKS
        ]

    def name(self, pictures: Sequence[Image.Image]) -> list[tuple[str, str]]:
        """The most likely (style, subgroup) of each picture."""
        said = self._said(pictures)
        best = zip(said["style"].argmax(1), said["subgroup"].argmax(1), strict=True)
        return [(self.styles[style], self.subgroups[subgroup]) for style, subgroup in best]

    def style_shares(self, pictures: Sequence[Image.Image]) -> npt.NDArray[np.float64]:
        """The probability of each of `styles`, (n, styles): the geometric mean of all networks and both views."""
        mean = self._said(pictures)["style"].astype(np.float64) / (2 * len(self._nets))
        shares: npt.NDArray[np.float64] = np.exp(mean - mean.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    def _said(self, pictures: Sequence[Image.Image]) -> dict[str, npt.NDArray[np.float32]]:
        """ "style" and "subgroup" -> log-probabilities, summed over networks and views."""
        parts = [self._said_of(pictures[at : at + 256]) for at in range(0, len(pictures), 256)]
        return {what: np.concatenate([part[what] for part in parts]) for what in ("style", "subgroup")}

    def _said_of(self, pictures: Sequence[Image.Image]) -> dict[str, npt.NDArray[np.float32]]:
        pixels = np.stack([np.asarray(p.convert("RGB").resize((64, 64)), np.float32) for p in pictures])
        upright = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) / 255
        said: dict[str, npt.NDArray[np.float32]] = {}
        for net in self._nets:
            for view in (upright, np.ascontiguousarray(upright[..., ::-1])):
                names = [output.name for output in net.get_outputs()]
                for name, logits in zip(names, net.run(names, {"picture": view}), strict=True):
                    said[name] = said.get(name, 0) + _log_shares(logits)
        return said

    def score(self, pictures: Sequence[Image.Image], asked: Sequence[tuple[str, str]]) -> Verdict:
        """Compare pictures with the (style, subgroup) that each was asked for."""
        named = self.name(pictures)
        hits = np.array([(n[0] == a[0], n[1] == a[1]) for n, a in zip(named, asked, strict=True)], np.float64)
        return Verdict(*(float(h) for h in (*hits.mean(axis=0), hits.prod(axis=1).mean())))

    def score_pairs(self, pictures: Sequence[Image.Image], asked: Sequence[tuple[tuple[str, str], str]]) -> PairVerdict:
        """Compare pictures with the two styles and the subgroup that each was asked for."""
        said = self._said(pictures)
        hits = []
        for styles, subgroups, (pair, subgroup) in zip(said["style"], said["subgroup"], asked, strict=True):
            first_two = {self.styles[at] for at in np.argsort(styles)[-2:]}
            hits.append((first_two == set(pair), self.subgroups[subgroups.argmax()] == subgroup))
        shares = np.array(hits, np.float64)
        return PairVerdict(*(float(h) for h in (*shares.mean(axis=0), shares.prod(axis=1).mean())))


def _log_shares(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Log-softmax, so that outputs of several networks can be added."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    shares: npt.NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shares


def held_out(name: str) -> bool:
    """True for the one picture in eight that the judge does not train on, by a hash of its name."""
    return hashlib.sha256(name.encode()).digest()[0] % 8 == 0
