"""The public basis of a bundle: its captions, its id, its file."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.codes import basis_of, prompt_codes
from edge_sdk.errors import ExportError
from edge_sdk.inference import BASIS, Bundle, Generator, PromptTruncated
from edge_sdk.privacy import DIMENSIONS, basis_id, make_basis, unit_length
from edge_sdk.privacy.coarse import STEPS
from export import export_model
from export.basis import add_basis
from export.public_captions import CAPTIONS_FILE, captions_for, public_captions, read_captions
from samples.stickers.public_captions import FILE
from samples.stickers.public_captions import public_captions as of_stickers
from samples.stickers.styles import STYLES
from tests.models import tiny_bundle, tiny_model

COLOURS, KINDS = (
    ["red", "blue", "green", "black", "white"],
    ["big", "small", "old", "new", "round", "long", "wet", "dry"],
)
OWN = [[f"a {colour} {kind} {thing}" for thing in ("fox", "owl", "tree")] for colour in COLOURS for kind in KINDS]


def flat(captions: Sequence[Sequence[str]]) -> list[str]:
    return [caption for style in captions for caption in style]


def vectors(generator: Generator, captions: Sequence[str]) -> np.ndarray:
    """Unit embeddings; the tiny model cuts some captions, as its vocabulary is small."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptTruncated)
        return unit_length(lambda texts: generator.encode_prompt(texts)[1], captions)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle(), tmp_path / "bundle"))


def test_a_bundle_has_the_basis_of_the_common_captions() -> None:
    with Generator.load(tiny_bundle(), threads=1, prepare=False) as generator:
        index, basis = generator.bundle.index, basis_of(generator)
        assert basis is not None
        assert basis.id == basis_id(index.base_id, public_captions())
        assert BASIS in index.files
        again = make_basis([vectors(generator, style) for style in public_captions()], basis.id)
    assert basis.axes == pytest.approx(again.axes, rel=1e-4, abs=1e-4 * np.abs(again.axes).max())
    assert basis.radius == pytest.approx(again.radius, rel=1e-5)


def test_codes_are_made_with_it() -> None:
    captions = flat(public_captions())[::60]
    with Generator.load(tiny_bundle(), threads=1, prepare=False) as generator:
        coarse, plain = prompt_codes(generator, captions, ["coarse", "plain"])
        basis = basis_of(generator)
        mean = vectors(generator, captions).mean(axis=0)
    assert basis is not None
    assert (coarse.level, len(coarse.code), coarse.source.hex()) == ("coarse", DIMENSIONS, basis.id)
    assert np.frombuffer(coarse.code, np.int8) == pytest.approx(STEPS * basis.place(mean), abs=1.01)
    assert (plain.level, plain.source) == ("plain", b"")
    assert np.frombuffer(plain.code, "<f4") == pytest.approx(mean, abs=1e-5)


def test_its_id_is_that_of_its_captions_and_encoder(copied: Path) -> None:
    first, before = add_basis(copied, OWN), (copied / BASIS).read_bytes()
    assert add_basis(copied, OWN) == first
    assert (copied / BASIS).read_bytes() == before
    others = [add_basis(copied, OWN[1:]), add_basis(copied, OWN, ["of a fused file"])]
    assert len({index.prompt_basis.id for index in (first, *others) if index.prompt_basis}) == 3
    assert Bundle.load(copied).index == others[-1], "the files' hashes hold"


def test_captions_that_are_all_alike_make_none(copied: Path) -> None:
    with pytest.raises(ExportError, match="less alike"):
        add_basis(copied, [["a fox", "a fox"]] * 100)


def test_common_captions_have_every_subject_and_style_equally_often() -> None:
    captions = flat(public_captions())
    assert len(set(captions)) == len(captions) == 512
    assert sum("an owl" in caption for caption in captions) == 8
    assert [len(style) for style in public_captions()] == [16] * 32
    assert [["stained glass" in caption for caption in style] for style in public_captions()].count([True] * 16) == 1


def test_a_models_own_captions_come_first(tmp_path: Path) -> None:
    assert captions_for(tiny_model()) == public_captions()
    blocks = ["\n".join([*style, style[0]]) for style in OWN]
    (tmp_path / CAPTIONS_FILE).write_text("\n" + " \n\n".join(blocks) + "\n", "utf-8")
    assert captions_for(tmp_path) == OWN


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a fox\n" * 100,  # one style
        b"a fox\n\na cat\n\n" * 50,  # a caption each
        b"a fox\na cat\n\n" * 31,  # too few styles
        b"a fox\na cat\n\n" * 40 + b"a dog\na dog\n",
        b"\xff\xfe\xff",
        None,
    ],
)
def test_captions_that_cannot_be_used_are_refused_with_what_to_write(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "captions.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ExportError, match=r"captions\.txt.*(at least 32 styles, better 200|give a UTF-8 text file)"):
        read_captions(file)


def test_too_few_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"1 styles of captions.*too few"):
        export_model(tmp_path / "no model", tmp_path / "out", captions=[["a fox", "an owl"]])


def test_the_stickers_captions_are_as_they_are_made() -> None:
    """Otherwise run `python -m samples.stickers.public_captions`."""
    captions = read_captions(FILE)
    assert captions == of_stickers()
    of_devices = [style.words for style in STYLES.values() if not style.base]
    assert not [caption for caption in flat(captions) if any(words in caption for words in of_devices)]
    taken = {word for words in of_devices for word in words.split()}
    styles = {word for style in captions for word in style[0].split(" of ")[0].split()}
    assert not taken & styles, "no word of a device's style tells styles apart"
