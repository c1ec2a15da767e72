"""One home, one federation, one coordinator at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coordinator.identity.home import Home, serving
from edge_sdk.errors import ConfigurationError, HomeInUse

HOLD = """
import sys
from pathlib import Path
from coordinator.identity.home import Home
home = Home(Path(sys.argv[1]), "tastes")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_one_learns_who_has_it(tmp_path: Path) -> None:
    first, second = Home(tmp_path / "home", "tastes"), Home(tmp_path / "home", "tastes")
    assert first.held
    assert not second.held
    assert f"process {os.getpid()} on {socket.gethostname()}, since 20" in str(second.in_use())
    held = serving(tmp_path / "home")
    assert held is not None
    assert (held.pid, held.federation) == (os.getpid(), "tastes")
    assert not second.take()
    first.close()
    assert serving(tmp_path / "home") is None
    assert second.take()
    assert second.locked
    second.close()


def test_what_a_killed_one_leaves_locks_nobody_out(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert not Home(tmp_path, "tastes").held
        process.kill()
    assert serving(tmp_path) is None
    home = Home(tmp_path, "tastes")
    held = serving(tmp_path)
    assert held is not None
    assert held.pid == os.getpid(), "not the one that was killed"
    home.close()


def test_a_note_that_was_cut_short_locks_nobody_out(tmp_path: Path) -> None:
    for note in (b"", b'{"federation":"tas', b"\xff\xfe"):
        (tmp_path / "coordinator.lock").write_bytes(note)
        home = Home(tmp_path, "tastes")
        assert home.held
        home.close()


@pytest.mark.parametrize("is_open", [True, False])
def test_the_home_of_another_federation_is_refused_by_its_name(tmp_path: Path, is_open: bool) -> None:
    first = Home(tmp_path, "tastes")
    if not is_open:
        first.close()
    for _ in range(2):  # being refused does not make it one's own
        with pytest.raises(HomeInUse, match=r"'tastes'.*'paintings'.*`home` of its own"):
            Home(tmp_path, "paintings")
    first.close()
    Home(tmp_path, "tastes").close()


def test_a_disk_without_locks_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    first, second = Home(tmp_path, "tastes"), Home(tmp_path, "tastes")
    assert first.held
    assert second.held
    assert not first.locked
    first.close()
    second.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="`home`"):
        Home(tmp_path / "file" / "home", "tastes")
