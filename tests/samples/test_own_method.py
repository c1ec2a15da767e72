"""The sample package with a method of its own: installed for real, away from this environment, and used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator import config
from edge_sdk.errors import ConfigurationError
from tests.models import tiny_bundle, tiny_model
from tests.training.samples import write_squares

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "own_method"


def run(folder: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sample, so that building leaves nothing in ours, and what pip makes of it in `installed`."""
    folder = tmp_path_factory.mktemp("own_method") / "package"
    shutil.copytree(SAMPLE, folder)
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet")
    run(folder, "-m", "pip", "install", *offline, "--target", "installed", ".")
    return folder


def test_a_federation_goes_by_the_method_of_another_package(package: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle(), tmp_path / "bundle")
    shutil.copy(package / "federation.toml", tmp_path)
    for name, pictures in (("anna", 10), ("ben", 12)):
        write_squares(tmp_path / "devices" / name, pictures)
    command = ("-m", "coordinator.cli", "simulate", "federation.toml", "devices", "--json", "result.json")
    path = os.pathsep.join((str(package / "installed"), str(ROOT)))
    run(tmp_path, *command, "--model", str(tiny_model()), "--threads", "1", PYTHONPATH=path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["federation"]["aggregation"]["method"] == "tempered"
    assert result["federation"]["aggregation"]["power"] == 0.5
    assert [one["updates"] for one in result["rounds"]] == [2, 2]
    energies = result["rounds"][0]["retained_energy"].values()  # by cluster
    assert energies
    assert all(0 < energy <= 1 for energy in energies)


def test_it_makes_the_promises_of_every_aggregator(package: Path) -> None:
    path = os.pathsep.join((str(package / "installed"), str(ROOT)))
    said = run(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_tempered.py", PYTHONPATH=path)
    assert "51 passed" in said


def test_without_the_package_the_method_is_unknown() -> None:
    with pytest.raises(ConfigurationError, match=r"\[aggregation\] method = 'tempered' is unknown; use one of product"):
        config.load(SAMPLE / "federation.toml")


def test_the_page_shows_its_settings_as_they_are() -> None:
    page, module = (ROOT / "docs" / "methods.md").read_text(), (SAMPLE / "impasto_tempered.py").read_text()
    shown = page.partition("class TemperedSettings")[2].partition("```")[0]
    for line in shown.splitlines():
        assert line in module, line
