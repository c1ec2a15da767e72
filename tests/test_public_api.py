from __future__ import annotations

import subprocess
import sys

import pytest

import edge_sdk

HEAVY = ("torch", "diffusers", "transformers", "peft", "onnxruntime", "numpy", "PIL", "paho")


def imported_by(code: str, modules: tuple[str, ...]) -> list[str]:
    """Those of `modules` that a fresh process has imported after running `code`."""
    report = f"import sys\n{code}\nprint(*[name for name in {modules!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.split()


def test_exactly_what_is_listed_is_exported() -> None:
    namespace: dict[str, object] = {}
    exec("from edge_sdk import *", namespace)
    assert sorted(set(namespace) - {"__builtins__"}) == sorted(edge_sdk.__all__) == edge_sdk.__all__
    assert set(edge_sdk.__all__) <= set(dir(edge_sdk))


@pytest.mark.parametrize("name", edge_sdk.__all__)
def test_every_name_is_documented_and_lives_in_our_package(name: str) -> None:
    value = getattr(edge_sdk, name)
    assert value.__module__.startswith("edge_sdk.")
    assert value.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        edge_sdk.no_such_thing  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert imported_by("import edge_sdk", (*HEAVY, "logging")) == []


@pytest.mark.parametrize(
    "code",
    [
        "from edge_sdk import Device, Generator, Membership, load_pictures",
        "import edge_sdk.cli",
        "from edge_sdk import Device; Device('bundle', model='model', pictures='pictures').adapters",
    ],
)
def test_torch_is_not_imported_before_training(code: str) -> None:
    assert imported_by(code, ("torch", "diffusers", "transformers", "peft")) == []


def test_missing_torch_is_named() -> None:
    """As in a base install, where the packages cannot be found."""
    code = (
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name: None if name in ('torch', 'peft') else find(name)\n"
        "import edge_sdk.training"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert 'TrainingError: Training needs torch, peft. Install them with: pip install "impasto[train]"' in done.stderr
