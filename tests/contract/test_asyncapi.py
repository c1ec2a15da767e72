"""docs/asyncapi.yaml is a valid AsyncAPI document, says the specification's own parser.

It is the library behind `@asyncapi/cli validate`, which with all its other commands is eight times the size.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.asyncapi import document, to_yaml

FILE = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"
VALIDATOR = Path(__file__).parent / "asyncapi"


@pytest.fixture(scope="module")
def validate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Any]:
    """The validator with its package from npm, in the versions of its lock file."""
    folder = tmp_path_factory.mktemp("asyncapi")
    shutil.copytree(VALIDATOR, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    assert shutil.which("npm"), "npm is not installed: apt-get install nodejs npm."
    install = ["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run(install, cwd=folder, check=True, timeout=300)

    def run(file: Path) -> Any:
        command = ["node", str(folder / "validate.mjs"), str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
        return json.loads(done.stdout)

    return run


def test_the_document_is_valid(validate: Callable[[Path], Any]) -> None:
    result = validate(FILE)
    assert result["parsed"]
    assert result["version"].startswith("3.")
    assert [found for found in result["found"] if found["severity"] in ("error", "warning")] == []


def test_one_that_is_not_would_be_seen(validate: Callable[[Path], Any], tmp_path: Path) -> None:
    broken = json.loads(json.dumps(document()))
    next(iter(broken["operations"].values()))["action"] = "shout"
    (tmp_path / "asyncapi.yaml").write_text(to_yaml(broken))
    result = validate(tmp_path / "asyncapi.yaml")
    assert not result["parsed"]
    assert any("action" in found["at"] for found in result["found"] if found["severity"] == "error")
