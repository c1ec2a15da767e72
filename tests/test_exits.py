"""Exit codes: one for every error, as the page says."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import coordinator.cli
import edge_sdk.cli
import export.cli
from edge_sdk import errors
from edge_sdk.exits import Exit, exit_code

PAGE = Path("docs/exit-codes.md")


def tree(kind: type[BaseException] = errors.ImpastoError) -> Iterator[type[BaseException]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from tree(below)


def rows() -> dict[int, tuple[str, set[str]]]:
    """Code -> its name and the errors that the page names for it."""
    found = re.findall(r"^\| (\d+) \| `(\w+)` \|[^|]*(?:\|[^|]*)?\| ([^|]*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return {int(code): (name, set(re.findall(r"`(\w+)`", said))) for code, name, said in found}


def made(kind: type[BaseException]) -> BaseException:
    return errors.BlobLost("lost", "0" * 64) if kind is errors.BlobLost else kind("said")


def test_the_page_has_every_code() -> None:
    text = PAGE.read_text("utf-8")
    for code in Exit:
        assert f"| {code.value} | `{code.name}` |" in text


def test_the_page_is_true_of_every_error_that_it_names() -> None:
    kinds = {kind.__name__: kind for kind in tree()}
    named = [(code, name) for code, (_, names) in rows().items() for name in names if name in kinds]
    assert len(named) > 20
    assert [(code, name) for code, name in named if exit_code(made(kinds[name])) != code] == []


def test_every_error_on_purpose_has_a_code_of_its_kind() -> None:
    others = {Exit.DONE, Exit.USAGE, Exit.FAULT}
    assert [kind for kind in tree() if exit_code(made(kind)) in others] == [errors.LineBroken]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), Exit.STORAGE),
        (FileNotFoundError(errno.ENOENT, "No such file"), Exit.UNUSABLE),
        (MemoryError(), Exit.DEVICE),
        (KeyError("a bug"), Exit.FAULT),
    ],
)
def test_other_errors(error: BaseException, code: Exit) -> None:
    assert exit_code(error) is code


COMMANDS = {
    "impasto": (["info", "bundle"], edge_sdk.cli.main, "edge_sdk.cli.app"),
    "impasto-coordinator": (["status", "a.toml"], coordinator.cli.main, "coordinator.cli.app"),
    "impasto-export": (["model", "out"], export.cli.main, "export.cli.typer.Typer"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_fault_of_ours_shows_its_traceback(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, main, app = COMMANDS[name]

    def broken(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    class App:
        command = staticmethod(lambda: lambda function: function)
        __call__ = staticmethod(broken)

    monkeypatch.setattr(sys, "argv", [name, *arguments])
    monkeypatch.setattr(app, (lambda **_: App()) if name == "impasto-export" else App())
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == Exit.FAULT
    assert "KeyError: 'a bug'" in capsys.readouterr().err
