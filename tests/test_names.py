"""Names of functions: no two in one place differ by a participle alone, such as `cluster` and `clustered`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    file
    for name in ("edge_sdk", "coordinator", "benchmarks", "export", "samples")
    for file in (ROOT / name).rglob("*.py")
]
PROPERTIES = {"property", "cached_property"}


def verbs(name: str) -> Iterator[str]:
    """The verbs that a name may be a participle of."""
    for ending, verb in (("ied", "y"), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e")):
        if name.endswith(ending):
            yield name.removesuffix(ending) + verb


def functions(scope: ast.Module | ast.ClassDef) -> dict[str, str]:
    """Name without its underscore -> name, of the functions of a module or class; a property is none."""
    found = [node for node in scope.body if isinstance(node, ast.FunctionDef)]
    plain = [node for node in found if not any(getattr(d, "id", "") in PROPERTIES for d in node.decorator_list)]
    return {node.name.lstrip("_"): node.name for node in plain}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_two_functions_differ_by_a_participle(file: Path) -> None:
    tree = ast.parse(file.read_text("utf-8"))
    for scope in [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]:
        known = functions(scope)
        assert not [(known[verb], name) for short, name in known.items() for verb in verbs(short) if verb in known]
