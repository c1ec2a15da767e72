"""`impasto doctor` and `impasto prepare`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner, Result

from edge_sdk import cli
from edge_sdk.inference import BACKENDS, Bundle
from edge_sdk.inference.bundle.index import hash_files, write_index
from edge_sdk.inference.runtime import prepare
from edge_sdk.inference.runtime.stages import graphs
from tests.inference.graphs import write_bundle
from tests.models import tiny_bundle


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("IMPASTO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path / "cache"


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One that is worth preparing, whose graphs are real and whose tokenizer is not."""
    monkeypatch.setattr(prepare, "SMALL", 0)
    made = write_bundle(tmp_path / "bundle")
    for name in ("scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/merges.txt"):
        path = made.path(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    made.path("tokenizer/tokenizer_config.json").write_text("{}")
    write_index(made.folder, replace(made.index, files=hash_files(made.folder)))
    return made.folder


def impasto(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, list(map(str, arguments)))


def test_shows_what_the_device_has(cache: Path) -> None:
    result = impasto("doctor", "--threads", 1)
    assert result.exit_code == 0, result.output
    for word in ("processor", "cores", "memory", "onnxruntime", str(cache), "GFLOP/s", *BACKENDS):
        assert word in result.output
    assert re.search(r"cpu +works +\d+ +ran one operation", result.output)
    assert re.search(r"auto draws with \w+: the fastest that works", result.output)


def test_the_same_for_programs(cache: Path) -> None:
    found = json.loads(impasto("doctor", "--threads", 1, "--json").output)
    assert set(found) == {"processor", "cores", "memory", "onnxruntime", "backends", "auto", "cache", "board"}
    assert set(found["backends"]) == set(BACKENDS)
    assert found["backends"]["cpu"]["works"]
    assert found["backends"]["cpu"]["gflops"] > 0.1
    assert found["auto"]["backend"] in found["backends"]
    assert found["cache"] == {"folder": str(cache), "size": 0}


def test_looks_at_a_bundle_prepares_it_and_empties_the_cache(bundle: Path) -> None:
    def stages() -> dict[str, dict[str, object]]:
        found = json.loads(impasto("doctor", "--threads", 1, "--json", "-b", bundle).output)
        assert found["bundle"]["whole"]
        states: dict[str, dict[str, object]] = found["bundle"]["stages"]
        return states

    before = stages()
    assert set(before) == {"text_encoder", "unet", "vae_decoder", "vae_encoder"}
    assert {(stage["state"], stage["disk_needed"]) for stage in before.values()} == {
        ("not prepared", prepare.disk_needed(graphs(Bundle.load(bundle))["unet"]))
    }
    assert "takes up to 2 MB of disk" in impasto("doctor", "--threads", 1, "-b", bundle).output
    done = impasto("prepare", bundle)
    assert done.exit_code == 0, done.output
    assert done.output.count("unet") == 2
    assert {stage["state"] for stage in stages().values()} == {"prepared"}
    emptied = json.loads(impasto("doctor", "--threads", 1, "--json", "--empty-cache").output)
    assert emptied["cache"]["freed"] > 10**6
    assert emptied["cache"]["size"] == 0
    assert stages() == before


def test_a_bundle_that_is_not_whole(bundle: Path, tmp_path: Path) -> None:
    (bundle / "unet/model.onnx").write_bytes(b"cut")
    for folder, reason in ((bundle, "not the file that was exported"), (tmp_path / "none", "There is no bundle")):
        shown = impasto("doctor", "--threads", 1, "-b", folder)
        assert shown.exit_code == 1
        assert "not whole" in shown.output
        found = json.loads(impasto("doctor", "--threads", 1, "--json", "-b", folder).output)
        assert not found["bundle"]["whole"]
        assert reason in found["bundle"]["reason"]
    refused = impasto("prepare", bundle)
    assert refused.exit_code == 1
    assert "not the file that was exported" in str(refused.exception)


def test_small_bundles_are_drawn_with_as_they_are(cache: Path) -> None:
    done = impasto("prepare", tiny_bundle())
    assert done.exit_code == 0
    assert "unet: small, it is drawn with as it is" in done.output
    assert not cache.exists()
