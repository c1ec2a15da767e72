"""The versions that are pinned, and those that may be installed, on x86-64 and on boards."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pinned(machine: str, python: str = "3.12") -> dict[str, list[str]]:
    """The versions of each package on such a machine."""
    environment = {"platform_machine": machine, "python_version": python, "sys_platform": "linux"}
    found: dict[str, list[str]] = {}
    for pin in pins():
        if pin.marker is None or pin.marker.evaluate(environment):
            found.setdefault(pin.name, []).extend(specifier.version for specifier in pin.specifier)
    return found


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "arm64"])
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.13"])
def test_every_package_is_pinned_once_on_every_machine(machine: str, python: str) -> None:
    found = pinned(machine, python)
    assert {name: versions for name, versions in found.items() if len(versions) != 1} == {}
    assert "torch" in found


def test_boards_get_the_last_torch_without_cuda_packages() -> None:
    assert Version(pinned("aarch64")["torch"][0]) < Version("2.11")
    assert Version(pinned("x86_64")["torch"][0]) >= Version("2.11")


def test_the_onnxruntime_that_crashes_on_import_is_left_out() -> None:
    lines = (ROOT / "pyproject.toml").read_text("utf-8").splitlines()
    (wanted,) = [Requirement(line.strip(' ",')) for line in lines if line.strip().startswith('"onnxruntime>')]
    assert "1.29.0" not in wanted.specifier
    assert "1.29.1" not in wanted.specifier
    assert {"1.23.2", "1.28.0", "1.30.0", pinned("x86_64")["onnxruntime"][0]} <= set(
        wanted.specifier.filter(["1.22.0", "1.23.2", "1.28.0", "1.30.0", pinned("x86_64")["onnxruntime"][0]])
    )
