"""Nothing phones home: what drawing, learning, joining and exporting do to network and disk, seen from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from edge_sdk.libraries import SETTINGS
from tests.models import tiny_bundle, tiny_model
from tests.watching import watched

ROOT = Path(__file__).parents[1]
JUDGE = ROOT / "samples" / "stickers" / "judge" / "deep.onnx"
SHOW = "import os, sys; print(*[os.environ.get(name) for name in {names}], sys.modules.get('openvino_telemetry', ''))"
# As somebody who has never heard of these variables starts a program.
UNSET = dict.fromkeys(SETTINGS, "")


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    whole = {name: value for name, value in {**os.environ, **UNSET, **environment}.items() if value}
    return subprocess.run(
        [sys.executable, "-c", code], env=whole, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )


def shown(packages: str, **environment: str) -> list[str]:
    code = f"import {packages}\n{SHOW.format(names=list(SETTINGS))}"
    return run(code, **environment).stdout.split()


# The last one is of samples and benchmarks that load a library themselves.
@pytest.mark.parametrize("package", ["edge_sdk", "edge_sdk.cli", "export", "coordinator", "samples.stickers.judge"])
def test_importing_a_package_of_ours_is_enough(package: str, tmp_path: Path) -> None:
    assert shown(package, HOME=str(tmp_path)) == ["1", "1", "None"]


@pytest.mark.parametrize("module", ["benchmarks.quality", "samples.stickers.judge", "export.precision"])
def test_it_comes_before_libraries_that_a_module_names_first(module: str) -> None:
    """There is no TelemetryWarning, which says that a library came earlier; the process turns warnings into errors."""
    code = f"import warnings; warnings.simplefilter('error', UserWarning); import {module.partition('.')[0]}, {module}"
    assert run(code).returncode == 0


def test_what_the_owner_has_set_stays(tmp_path: Path) -> None:
    assert shown("edge_sdk", ORT_DISABLE_TELEMETRY="0", HOME=str(tmp_path)) == ["0", "1", "None"]
    assert shown("edge_sdk", HF_HUB_DISABLE_TELEMETRY="0", HOME=str(tmp_path)) == ["1", "0", "None"]
    consent = tmp_path / "intel" / "openvino_telemetry"
    consent.parent.mkdir()
    consent.write_text("0")
    assert shown("edge_sdk", HOME=str(tmp_path)) == ["1", "1", "None"]
    consent.write_text("1")
    assert shown("edge_sdk", HOME=str(tmp_path)) == ["1", "1"]


def test_a_library_that_was_earlier_is_told_of() -> None:
    assert "TelemetryWarning: onnxruntime was imported before edge_sdk" in run("import onnxruntime, edge_sdk").stderr
    assert run("import onnxruntime, edge_sdk", ORT_DISABLE_TELEMETRY="1").stderr == ""


def test_the_watch_sees_native_and_python_sockets_and_files(tmp_path: Path) -> None:
    """Connecting a datagram socket sends nothing; the addresses are for documentation."""
    code = (
        "import ctypes, socket, struct, pathlib\n"
        "socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 443))\n"
        "at = struct.pack('=H', socket.AF_INET) + struct.pack('!H4s8x', 443, socket.inet_aton('192.0.2.2'))\n"
        "ctypes.CDLL(None).connect(socket.socket(type=socket.SOCK_DGRAM).fileno(), at, len(at))\n"
        "socket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.1', 9))\n"
        "socket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.53', 53))\n"
        "pathlib.Path.home().joinpath('.cache', 'id').write_text('me')\n"
    )
    seen = watched([sys.executable, "-c", code], tmp_path)
    assert seen.outside == ["127.0.0.53:53", "192.0.2.1:443", "192.0.2.2:443"]
    assert seen.left == [".cache/id"]
    assert str(tmp_path / "home" / ".cache" / "id") in seen.created


def test_onnx_runtime_left_alone_is_seen(tmp_path: Path) -> None:
    """The telemetry that all this is against. If this fails, it has changed, and must be looked at again."""
    assert tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 29)
    code = f"import onnxruntime; onnxruntime.InferenceSession({str(JUDGE)!r}, providers=['CPUExecutionProvider'])"
    seen = watched([sys.executable, "-c", code], tmp_path, **UNSET)
    assert any(name.endswith("deviceid") for name in seen.left), seen.left


def assert_silent(command: list[str], folder: Path, *allowed: Path) -> None:
    seen = watched([sys.executable, "-m", *command], folder, PYTHONPATH=str(ROOT), **UNSET)
    assert seen.done.returncode == 0, seen.done.stderr
    assert seen.outside == []
    assert seen.left == []
    own = (*(str(path) for path in (folder, *allowed)), "/dev/", "/proc/")
    assert [path for path in seen.created if not path.startswith(own) and "__pycache__" not in path] == []


def test_exporting_drawing_learning_and_joining_are_silent(tmp_path: Path) -> None:
    """The quickstart does all of it: device, broker and coordinator."""
    out = tmp_path / "out"
    assert_silent(["samples.quickstart", "--model", str(tiny_model()), "--out", str(out), "--steps", "2"], tmp_path)
    assert (out / "shared.png").is_file()


def test_every_back_end_is_silent(tmp_path: Path) -> None:
    """`doctor` tries all that are installed; OpenVINO reports by itself when it is imported."""
    code = "import sys, edge_sdk.cli; sys.argv = {}; edge_sdk.cli.main()"
    for number, arguments in enumerate(
        (
            ["impasto", "doctor", "--json"],
            ["impasto", "generate", "a fox", "-b", str(tiny_bundle()), "-o", str(tmp_path / "fox.png"), "--steps", "1",
             "--backend", "openvino"],
        )
    ):  # fmt: skip
        seen = watched([sys.executable, "-c", code.format(arguments)], tmp_path / str(number), **UNSET)
        assert seen.done.returncode == 0, seen.done.stderr
        assert seen.outside == []
        assert seen.left == []
