"""Bundles that an earlier run has made: kept only as long as an export would make the same."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks.shared import stickers
from edge_sdk.errors import BundleMissing, ExportError
from edge_sdk.inference import Bundle
from edge_sdk.inference.bundle import Fused, write_index
from export import Exported, is_current
from export.basis import add_basis
from export.public_captions import CAPTIONS_FILE, public_captions
from samples.demo.__main__ import _export
from samples.demo.settings import Settings
from samples.quickstart.surroundings import make_bundle
from tests.models import picture_bundle, picture_model, tiny_bundle, tiny_model, write_image_encoder

OTHERS = public_captions()[::-1]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle(), tmp_path / "bundle"))


def change(folder: Path, **values: object) -> None:
    write_index(folder, msgspec.structs.replace(Bundle.load(folder).index, **values))


def test_a_bundle_is_current_as_long_as_nothing_has_changed(copied: Path) -> None:
    assert is_current(copied, tiny_model())
    assert not is_current(copied, tiny_model("epsilon")), "another base model"
    assert not is_current(copied, tiny_model(), "all"), "other layers"
    assert not is_current(copied.with_name("none"), tiny_model())


@pytest.mark.parametrize(
    "values",
    [
        {"prompt_basis": None},
        {"precision": "fp16"},
        {"fused": [Fused(name="lcm", sha256="0" * 64, weight=1.0, layers=1)]},
    ],
)
def test_a_bundle_of_other_options_or_of_an_earlier_version_is_not(copied: Path, values: dict[str, object]) -> None:
    change(copied, **values)
    assert not is_current(copied, tiny_model())


def test_a_damaged_bundle_is_not(copied: Path) -> None:
    (copied / "prompt_basis.safetensors").write_bytes(b"damaged")
    assert not is_current(copied, tiny_model())


def test_a_bundle_whose_basis_is_of_other_public_captions_is_not(copied: Path, tmp_path: Path) -> None:
    add_basis(copied, OTHERS)
    assert not is_current(copied, tiny_model())
    model = shutil.copytree(tiny_model(), tmp_path / "model")
    (model / CAPTIONS_FILE).write_text("\n\n".join("\n".join(style) for style in OTHERS), "utf-8")
    assert is_current(copied, model)
    assert not is_current(tiny_bundle(), model)


def test_a_bundle_with_another_image_encoder_or_without_the_models_own_is_not(copied: Path, tmp_path: Path) -> None:
    assert is_current(picture_bundle(), picture_model())
    assert not is_current(picture_bundle(), tiny_model()), "the model has none"
    assert not is_current(copied, picture_model()), "the bundle has none"
    model = shutil.copytree(picture_model(), tmp_path / "model")
    write_image_encoder(tmp_path / "other", image_mean=[0.5, 0.5, 0.5])
    shutil.copy(tmp_path / "other" / "preprocessor_config.json", model / "feature_extractor")
    assert not is_current(picture_bundle(), model), "another preprocessing is another encoder"


def test_a_model_that_cannot_be_exported_is_named(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleMissing, match="no base model"):
        is_current(copied, tmp_path)
    model = shutil.copytree(tiny_model(), tmp_path / "model")
    (model / CAPTIONS_FILE).write_text("a fox\n", "utf-8")
    with pytest.raises(ExportError, match="too few"):
        is_current(copied, model)


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that are exported to from now on, instead of an export, which takes minutes."""
    folders: list[Path] = []

    def export_model(model: Path, out: Path, **options: object) -> Exported:
        assert options["overwrite"]
        folders.append(out)
        return Exported(out, Bundle.load(out).index, {})

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert "--overwrite" in command
        folders.append(Path(command[2]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("export.bundle.export_model", export_model)
    monkeypatch.setattr("samples.quickstart.surroundings.export_model", export_model)
    monkeypatch.setattr("samples.demo.__main__.subprocess.run", run)
    return folders


def test_demo_benchmarks_and_quickstart_export_again_what_is_not_current(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: list[Path]
) -> None:
    """A bundle with an old basis is exported again by each of them; one of today's captions stays as it is."""
    slots = Bundle.load(copied).index.slots
    convolution = msgspec.structs.replace(slots[0], name="unet.conv_in")
    of_all = [tmp_path / "of_demo", tmp_path / "stickers-all-layers"]
    for folder in of_all:
        shutil.copytree(copied, folder)
        change(folder, slots=[*slots, convolution])
    settings = Settings(
        out=str(tmp_path / "demo"), model=str(tiny_model()), base_id="", bundle=str(of_all[0]), broker="", devices=4,
        rounds=2, steps=1, rank=8, batch_size=8, seed=0, judged=1, draw_steps=1, guidance=3.0, deadline=60.0,
    )  # fmt: skip
    monkeypatch.setattr(stickers, "MODEL", tiny_model())
    monkeypatch.setattr(stickers, "KEPT", tmp_path)
    for old in (False, True):
        for folder in (*of_all, copied) if old else ():
            add_basis(folder, OTHERS)
        _export(settings)
        assert stickers.bundle() == of_all[1]
        assert make_bundle(tiny_model(), copied) == copied
        assert exported == ([*of_all, copied] if old else [])


def test_it_needs_no_torch() -> None:
    script = "import sys, export; export.is_current; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
