"""Text of whatever origin, on terminals of whatever encoding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_sdk import adapter
from edge_sdk.adapter import Adapter, Factors
from edge_sdk.errors import ImpastoError, describe
from edge_sdk.streams import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe 狐 🦊 👩\u200d👩\u200d👧\tx\ny", "größe 狐 🦊 👩\u200d👩\u200d👧\tx\ny"),
        ("a\x1b[2Jb\x9bc\r\x07", r"a\x1b[2Jb\x9bc\r\x07"),
        ("\udcff.png", r"\udcff.png"),
    ],
)
def test_nothing_that_is_printed_drives_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_an_error_is_one_line_without_commands_for_the_terminal() -> None:
    assert describe(ImpastoError("no\n\x1b[31mbundle")) == r"no \x1b[31mbundle"
    assert describe(OSError(28, "No space left on device")) == "No space left on device"
    assert describe(FileNotFoundError(2, "No such file or directory", "a\x1b")) == r"a\x1b: No such file or directory"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_name_that_the_locale_has_no_letters_for_ends_nothing(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "狐.safetensors"
    adapter.save(Adapter({"unet.a.to_q": Factors(np.ones((1, 2), np.float32), np.ones((2, 1), np.float32))}), path)
    program = "from edge_sdk.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "info", str(path)],
        env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "200"},
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert ("狐" if encoding == "utf-8" else r"\u72d0") in done.stdout.decode(encoding)
