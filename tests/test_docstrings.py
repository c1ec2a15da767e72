"""Docstrings open with a noun or a verb, and every public class has one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
QUESTION_WORDS = {"what", "who", "whom", "whose", "whether", "how", "where", "when", "why", "which", "that"}


@pytest.mark.parametrize("package", ["edge_sdk", "coordinator", "export", "samples", "benchmarks", "tests"])
def test_docstring_opens_with_no_question_word(package: str) -> None:
    found = list(docstrings(package))
    assert found
    assert [f"{place}: {text.splitlines()[0]}" for place, text in found if opening(text) in QUESTION_WORDS] == []


@pytest.mark.parametrize("package", ["edge_sdk", "coordinator", "export"])
def test_public_class_has_a_docstring(package: str) -> None:
    found = list(public_classes(package))
    assert found
    assert [f"{place}: {node.name}" for place, node in found if not ast.get_docstring(node)] == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("What a device brings home.", "what"),
        ("\n    Whether it is there.", "whether"),
        ('"How" many.', "how"),
        ("Whatever `train` raises.", "whatever"),
        ("`where` is the index.", "where"),
        ("... when done", "when"),
        ("", ""),
    ],
)
def test_opening_is_the_first_word(text: str, word: str) -> None:
    assert opening(text) == word


def opening(text: str) -> str:
    """The first word of a text, in small letters; empty if there is none."""
    word = re.search(r"\w+", text)
    return word[0].lower() if word else ""


def trees(package: str) -> Iterator[tuple[str, ast.Module]]:
    """The path and the syntax tree of every module of a package."""
    for file in sorted((ROOT / package).rglob("*.py")):
        yield file.relative_to(ROOT).as_posix(), ast.parse(file.read_text("utf-8"))


def docstrings(package: str) -> Iterator[tuple[str, str]]:
    """The place and the text of every docstring, those under a constant or an attribute included."""
    for path, tree in trees(package):
        for node in ast.walk(tree):
            match node:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield f"{path}:{node.lineno}", text


def public_classes(package: str) -> Iterator[tuple[str, ast.ClassDef]]:
    """The place and the node of every class that others may use: in a module or in a public class."""

    def inside(path: str, parent: ast.Module | ast.ClassDef) -> Iterator[tuple[str, ast.ClassDef]]:
        for node in parent.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield f"{path}:{node.lineno}", node
                yield from inside(path, node)

    for path, tree in trees(package):
        yield from inside(path, tree)
