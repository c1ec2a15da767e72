"""`impasto-coordinator simulate`: real training on folders of pictures, and what is refused before it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from coordinator import config
from coordinator.cli import main
from coordinator.config.tables import FAMILIES
from coordinator.server.service import Service
from coordinator.simulation.offline.devices import open_devices
from coordinator.simulation.offline.folders import read_folders
from edge_sdk.adapter import LayerSet, load
from edge_sdk.errors import ConfigurationError, NoPictures, PictureError
from edge_sdk.inference import compute_base_id
from edge_sdk.training.base_model.unet import load_unet
from export.source import slots_of
from tests.models import EMBEDDING, STICKERS, picture_bundle, stickers_bundle, tiny_bundle, tiny_model, write_model
from tests.training.samples import write_squares

Run = Callable[..., tuple[int, str]]
SETTINGS = {"name": "try", "rounds": 2, "root_rounds": 1, "steps": 2, "batch_size": 2, "rank": 4} | {
    # Devices of six and four pictures.
    "privacy": "plain", "allow_plain": True,
}  # fmt: skip


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `simulate` with these arguments; returns its exit code and what it said."""

    def call(*arguments: str | Path) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main(["simulate", *map(str, arguments), "--threads", "1"])
        out, err = capsys.readouterr()
        return int(end.value.code or 0), " ".join((out + err).split())

    return call


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    """Two devices of six and four pictures, and things that are none."""
    folder = tmp_path / "devices"
    write_squares(folder / "anna", 6)
    write_squares(folder / "ben", 4)
    (folder / ".hidden").mkdir()
    (folder / "notes.txt").write_text("no device")
    return folder


def federation(folder: Path, bundle: Path | None = None, **changes: Any) -> Path:
    values = {"bundle": str(bundle or tiny_bundle()), **SETTINGS, **changes}
    path = folder / "try.toml"
    methods = {"clustering": {"min_cluster": 1}, **{key: values.pop(key) for key in [*values] if key in FAMILIES}}
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items() if value is not None)
    for table, keys in methods.items():
        text += f"[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    path.write_text(text)
    return path


def test_a_federation_is_tried_out(run: Run, devices: Path, tmp_path: Path) -> None:
    (devices / "ben" / "device.toml").write_text("max_rank = 2\n")
    out, file = tmp_path / "learnt", tmp_path / "result.json"
    code, said = run(
        federation(tmp_path), devices, "--model", tiny_model(), "--out", out, "--json", file, "--held-out", "0.25"
    )
    assert code == 0, said
    assert "round 2 of 2 (cluster): training loss" in said
    assert "of 2 devices are better off" in said
    result = json.loads(file.read_text())
    assert result["base_id"] == compute_base_id(tiny_model())
    anna, ben = result["devices"]["anna"], result["devices"]["ben"]
    assert (anna["pictures"], anna["held_out"], anna["max_rank"]) == (4, 2, 4)
    assert (ben["pictures"], ben["held_out"], ben["max_rank"]) == (3, 1, 2)
    assert anna["bytes_up"] > ben["bytes_up"] > 0
    assert anna["loss_before"] != anna["loss_after"] > 0
    assert [(one["round"], one["stage"], one["updates"], one["refused"]) for one in result["rounds"]] == [
        (1, "root", 2, {}),
        (2, "cluster", 2, {}),
    ]
    assert set(result["rounds"][1]["assignment"]) == {"anna", "ben"}
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*.safetensors"))
    clusters = sorted({f"clusters/{device['cluster']}.safetensors" for device in (anna, ben)})
    assert written == [*clusters, "root.safetensors"]
    assert load(out / "root.safetensors").base_id == result["base_id"]


def test_a_device_with_too_few_captions_for_the_level_is_named(run: Run, devices: Path, tmp_path: Path) -> None:
    path = federation(tmp_path, privacy="coarse", allow_plain=False)
    code, said = run(path, devices, "--model", tiny_model(), "--out", tmp_path / "out")
    assert code == 1
    assert "anna: A code of level 'coarse' needs at least 8 different captions" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layers", ["transformer", "all"])
def test_other_sets_of_layers_are_trained_and_averaged(
    run: Run, devices: Path, tmp_path: Path, layers: LayerSet
) -> None:
    code, said = run(federation(tmp_path, layers=layers), devices, "--model", tiny_model(), "--out", tmp_path / "out")
    assert code != 0
    assert f"export the bundle with --slots {layers}" in said
    # The simulation draws nothing: a bundle whose description has more slots is enough.
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle(), bundle)
    slots = [msgspec.to_builtins(slot) for slot in slots_of(load_unet(tiny_model()), layers)]
    description = json.loads((bundle / "impasto.json").read_text())
    (bundle / "impasto.json").write_text(json.dumps({**description, "slots": slots}))
    wide = federation(tmp_path, bundle, layers=layers)
    code, said = run(wide, devices, "--model", tiny_model(), "--out", tmp_path / "out")
    assert code == 0, said
    found = [load(file) for file in (tmp_path / "out").rglob("*.safetensors")]
    assert found
    for adapter in found:
        assert set(adapter.layers) == {slot["name"] for slot in slots}
        assert all(abs(factors.b).max() > 0 for factors in adapter.layers.values())


@pytest.mark.parametrize("encoder", [True, False])
def test_devices_have_picture_codes_if_the_bundle_has_an_image_encoder(devices: Path, encoder: bool) -> None:
    folders = read_folders(devices, rank=4, held_out=0.2, seed=0)
    bundle = picture_bundle() if encoder else tiny_bundle()
    opened = open_devices(
        folders, model=tiny_model(), bundle=bundle, privacy="plain", seed=0, threads=1,
        on_step=lambda name, plan, progress: None,
    )  # fmt: skip
    codes = [device.profile.picture_code for device in opened]
    assert [len(code) for code in codes] == [4 * EMBEDDING if encoder else 0] * 2
    assert (codes[0] != codes[1]) is encoder


def test_the_same_seed_gives_the_same_adapters(run: Run, devices: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run(federation(tmp_path), devices, "--model", tiny_model(), "--out", tmp_path / name)[0] == 0
    one, two = ((tmp_path / name / "root.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_ifca_runs_here_and_only_here(run: Run, devices: Path, tmp_path: Path) -> None:
    file, path = tmp_path / "result.json", federation(tmp_path, clustering={"method": "ifca", "clusters": 2})
    code, said = run(path, devices, "--model", tiny_model(), "--json", file, "--held-out", "0")
    assert code == 0, said
    result = json.loads(file.read_text())
    assert result["devices"]["anna"]["held_out"] == 0
    assert set(result["rounds"][1]["assignment"].values()) <= {0, 1}
    with pytest.raises(ConfigurationError, match="impasto-coordinator simulate"):
        Service(config.load(path))
    with pytest.raises(ConfigurationError, match="set clusters"):
        config.load(federation(tmp_path, clustering={"method": "ifca"}))


def test_a_factor_that_stays_at_home_makes_an_adapter_for_each_device(run: Run, devices: Path, tmp_path: Path) -> None:
    path = federation(tmp_path, aggregation={"method": "fedsa"}, root_rounds=0, interaction={"method": "none"})
    assert run(path, devices, "--model", tiny_model(), "--out", tmp_path / "learnt")[0] == 0
    written = sorted(
        str(path.relative_to(tmp_path / "learnt")) for path in (tmp_path / "learnt").rglob("*.safetensors")
    )
    assert written == ["devices/anna/cluster.safetensors", "devices/ben/cluster.safetensors"]


@pytest.mark.timeout(900)  # the model of the samples is exported first, which takes minutes on a busy machine
def test_the_stickers_learn(run: Run, tmp_path: Path) -> None:
    from samples.demo.plan import make_plan, write_folder

    for plan in make_plan(2, seed=0):
        write_folder(plan.pictures[:4], tmp_path / "devices" / plan.id)
    file = tmp_path / "result.json"
    given = federation(tmp_path, stickers_bundle()), tmp_path / "devices", "--model", STICKERS, "--json", file
    code, said = run(*given)
    assert code == 0, said
    for device in json.loads(file.read_text())["devices"].values():
        assert (device["pictures"], device["held_out"]) == (3, 1)
        assert 0 < device["loss_after"] < 1.1 * device["loss_before"]


# An entry of None in sys.modules would not do: libraries look there for torch, and take what they find for it.
WITHOUT_TORCH = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def without(cls, name, *where):
    return None if name.split(".")[0] == "torch" else find(name, *where)
PathFinder.find_spec = classmethod(without)
"""


class TestRefused:
    """Said at once, by name, and nothing is written."""

    def refused(self, run: Run, *arguments: str | Path, out: Path) -> str:
        code, said = run(*arguments, "--out", out, "--json", out.with_suffix(".json"))
        assert code == 1, said
        assert not out.exists()
        assert not out.with_suffix(".json").exists()
        return said

    def test_no_such_folder(self, run: Run, tmp_path: Path) -> None:
        said = self.refused(run, federation(tmp_path), tmp_path / "none", "-m", tiny_model(), out=tmp_path / "out")
        assert said.startswith("NoPictures")
        assert "one sub-folder for each device" in said

    def test_a_picture_without_a_caption(self, run: Run, devices: Path, tmp_path: Path) -> None:
        (devices / "ben" / "metadata.jsonl").unlink()
        said = self.refused(run, federation(tmp_path), devices, "-m", tiny_model(), out=tmp_path / "out")
        assert said.startswith("PictureError")
        assert "has no caption" in said

    def test_another_base_model(self, run: Run, devices: Path, tmp_path: Path) -> None:
        model = write_model(tmp_path / "other", "epsilon")
        said = self.refused(run, federation(tmp_path), devices, "-m", model, out=tmp_path / "out")
        assert said.startswith("ConfigurationError")
        assert "is not the base model" in said

    def test_no_base_model(self, run: Run, devices: Path, tmp_path: Path) -> None:
        said = self.refused(run, federation(tmp_path), devices, "-m", devices, out=tmp_path / "out")
        assert said.startswith("BundleMissing")
        assert "no base model" in said

    def test_no_text_encoder(self, run: Run, devices: Path, tmp_path: Path) -> None:
        shutil.copy(tiny_bundle() / "impasto.json", tmp_path)
        path = federation(tmp_path, bundle=None)
        path.write_text(path.read_text().replace(f'bundle = "{tiny_bundle()}"', 'slots = "impasto.json"'))
        said = self.refused(run, path, devices, "-m", tiny_model(), out=tmp_path / "out")
        assert "needs `bundle`" in said

    def test_no_torch(self, devices: Path, tmp_path: Path) -> None:
        """As on a machine where only a coordinator is installed."""
        arguments = ["simulate", str(federation(tmp_path)), str(devices), "-m", str(tiny_model())]
        program = f"{WITHOUT_TORCH}\nfrom coordinator.cli import main\nmain({arguments!r})"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("TrainingError: Training needs torch")
        assert "impasto[train]" in done.stderr

    def test_a_rank_that_the_method_cannot_mix(self, run: Run, devices: Path, tmp_path: Path) -> None:
        (devices / "anna" / "device.toml").write_text("max_rank = 2\n")
        path = federation(tmp_path, aggregation={"method": "fedit"})
        said = self.refused(run, path, devices, "-m", tiny_model(), out=tmp_path / "out")
        assert "device.toml: max_rank = 2" in said
        assert "'fedit' needs rank 4" in said

    def test_places_that_are_taken(self, run: Run, devices: Path, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "letter.txt").write_text("keep me")
        path = federation(tmp_path)
        code, said = run(path, devices, "-m", tiny_model(), "--out", tmp_path / "mine")
        assert code == 1
        assert "is there already" in said
        code, said = run(path, devices, "-m", tiny_model(), "--json", tmp_path / "none" / "result.json")
        assert code == 1
        assert "a file in a folder that is there" in said
        assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


class TestFolders:
    def read(self, devices: Path, held_out: float = 0.2, seed: int = 0) -> dict[str, Any]:
        return {folder.name: folder for folder in read_folders(devices, rank=8, held_out=held_out, seed=seed)}

    def test_the_seed_chooses_what_is_held_out_for_each_device_apart(self, devices: Path) -> None:
        first = self.read(devices, 0.5)
        assert first == self.read(devices, 0.5)
        assert first != self.read(devices, 0.5, seed=1)
        for folder in first.values():
            assert sorted((*folder.learnt, *folder.held_out)) == list(range(len(folder.learnt) + len(folder.held_out)))
        shutil.rmtree(devices / "anna")
        assert self.read(devices, 0.5) == {"ben": first["ben"]}

    @pytest.mark.parametrize(("share", "counts"), [(0.0, (0, 0)), (0.01, (1, 1)), (0.5, (3, 2)), (0.9, (5, 3))])
    def test_one_is_held_out_at_least_and_one_learnt_from(
        self, devices: Path, share: float, counts: tuple[int, int]
    ) -> None:
        folders = self.read(devices, share)
        assert tuple(len(folders[name].held_out) for name in ("anna", "ben")) == counts

    def test_one_picture_cannot_be_held_out(self, tmp_path: Path) -> None:
        write_squares(tmp_path / "carl", 1)
        with pytest.raises(PictureError, match="--held-out 0"):
            self.read(tmp_path)
        assert self.read(tmp_path, 0.0)["carl"].learnt == (0,)

    def test_pictures_that_lie_directly_in_it(self, tmp_path: Path) -> None:
        write_squares(tmp_path, 2)
        with pytest.raises(NoPictures, match="move them into"):
            self.read(tmp_path)

    def test_an_empty_folder_and_an_empty_device(self, tmp_path: Path) -> None:
        with pytest.raises(NoPictures, match="has no device in it"):
            self.read(tmp_path)
        (tmp_path / "dora").mkdir()
        with pytest.raises(NoPictures, match="dora holds no pictures"):
            self.read(tmp_path)

    @pytest.mark.parametrize("text", ["max_rank = 0", 'max_rank = "x"', "rank = 3", "max_rank ="])
    def test_settings_that_make_no_sense(self, devices: Path, text: str) -> None:
        (devices / "ben" / "device.toml").write_text(text)
        with pytest.raises(ConfigurationError, match=r"ben.device.toml.*max_rank = 4"):
            self.read(devices)
