"""`impasto-export` as a person uses it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_sdk.inference import Bundle
from tests.models import tiny_bundle, tiny_model


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from export.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=280)


def test_replaces_a_bundle_when_asked_and_reports_the_errors(tmp_path: Path) -> None:
    out = shutil.copytree(tiny_bundle(), tmp_path / "bundle")
    (out / "left over").write_text("")
    done = run(tiny_model(), out, "--overwrite")
    assert done.returncode == 0, done.stderr
    for part in ("text_encoder", "unet", "unet with adapter", "vae_decoder", "vae_encoder"):
        assert re.search(rf"\n {part} +\d\.\de-0[5-9]", done.stderr), done.stderr
    assert Bundle.load(out).index.base_id[:12] in done.stderr
    # Nothing but ours.
    assert not re.search("(?i)warning|torchvision|optimum|loading", done.stderr), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    # Made twice from the same weights, on different days, the files are the same.
    assert Bundle.load(out).index.files == Bundle.load(tiny_bundle()).index.files


def test_errors_are_one_message(tmp_path: Path) -> None:
    done = run("owner/name", tmp_path / "bundle", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "cache"))
    assert done.returncode == 1
    assert "ExportError: owner/name is no local folder and cannot be fetched" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "bundle").exists()


def test_an_image_encoder_and_none_are_not_asked_for_at_once(tmp_path: Path) -> None:
    done = run(tiny_model(), tmp_path / "bundle", "--image-encoder", tmp_path, "--no-image-encoder")
    assert done.returncode == 2
    assert "exclude each other" in done.stderr


def test_help_is_quick_to_come() -> None:
    script = "import sys, export.cli; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert "--no-verify" in run("--help").stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        (b"", "has 0 styles of captions"),
        (b"a fox\na cat\n", "has 1 styles of captions, 0 of them with fewer than two different ones: too few"),
        (b"a fox\n\n" * 40, "has 40 styles of captions, 40 of them with fewer"),
        (b"\xff\xfe\x00a", "can't decode byte 0xff"),
    ],
)
def test_public_captions_that_cannot_be_used_are_one_message(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "captions.txt").write_bytes(content)
    before = sorted(tmp_path.iterdir())
    done = run(tiny_model(), tmp_path / "bundle", "--captions", tmp_path / "captions.txt")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("ExportError: ")
    assert message in line
    assert "Write one caption a line" in line or "give a UTF-8 text file" in line
    assert sorted(tmp_path.iterdir()) == before


def test_calibration_prompts_that_cannot_be_used_are_one_message(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("\n")
    arguments = ("--precision", "int8", "--calibrate", tmp_path / "prompts.txt")
    done = run(tiny_model(), tmp_path / "bundle", *arguments)
    assert done.returncode == 1
    assert "CalibrationError:" in done.stderr
    assert "is empty: write one prompt a line" in " ".join(done.stderr.split())
    assert not (tmp_path / "bundle").exists()
