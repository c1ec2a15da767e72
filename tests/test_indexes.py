"""Packages whose `__init__` lists their modules list all of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


INDEXED = ["benchmarks", "edge_sdk/diagnosis/board", "export", "export/source", "export/graphs", "export/precision"]


@pytest.mark.parametrize("package", INDEXED)
def test_every_module_and_folder_is_in_the_index(package: str) -> None:
    folder = ROOT / package
    index = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")))
    assert index is not None
    named = set(re.findall(r"\b\w+\.py\b|\b\w+/", index))
    modules = {file.name for file in folder.glob("*.py")} - {"__init__.py"}
    folders = {f"{found.name}/" for found in folder.iterdir() if found.is_dir() and found.name != "__pycache__"}
    assert modules | folders <= named
    assert {name for name in named if name.endswith(".py")} <= modules
