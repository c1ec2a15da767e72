"""The quickstart, on a tiny model: a process of its own, as a person runs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageChops

from tests.models import tiny_bundle, tiny_model

ROOT = Path(__file__).parents[1]


def test_quickstart_runs(tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle(), tmp_path / "bundle")
    command = [sys.executable, "-m", "samples.quickstart", "--model", str(tiny_model()), "--out", str(tmp_path)]
    done = subprocess.run([*command, "--steps", "4"], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "shared.png" in done.stdout
    before, learned, shared = (Image.open(tmp_path / f"{name}.png") for name in ("before", "learned", "shared"))
    assert ImageChops.difference(before, learned).getbbox()
    assert ImageChops.difference(learned, shared).getbbox()
    home = {path.name for path in (tmp_path / "home").glob("*.safetensors")}
    assert {"root.safetensors", "cluster.safetensors", "leaf.safetensors"} <= home
