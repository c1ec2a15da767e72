"""Runs a command and sees what it does to the network and to the disk, in Python and in native code alike.

strace shows every system call, of all threads and children: an interposed libc or Python's audit hooks would miss those
of statically linked libraries.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_CALLS = "trace=%network,open,openat,openat2,creat"
_SOCKET = re.compile(r"(?:connect|sendto|sendmsg|sendmmsg)\(.*?sa_family=AF_(?P<family>\w+), (?P<rest>.*)")
_ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')
_PORT = re.compile(r"port=htons\((\d+)\)")
_UNIX = re.compile(r'sun_path=@?"([^"]+)"')
_CREATED = re.compile(r'(?:openat2?|open|creat)\((?:\w+, )?"([^"]+)".*O_CREAT')
_DNS = 53


@dataclass(frozen=True)
class Watched:
    """The traces that a command left.

    Attributes:
        outside: addresses beyond this machine, and name servers wherever they are, that it turned to.
        left: files that it left in its home, caches and temporary folder, by their paths in there.
        created: files that it opened for writing, wherever they are.
    """

    done: subprocess.CompletedProcess[str]
    outside: list[str]
    left: list[str]
    created: list[str]


def watched(command: list[str], folder: Path, **environment: str) -> Watched:
    """Run a command with a home of its own in a new folder.

    environment: variables beside those of the home; an empty one is not set.
    """
    strace = shutil.which("strace")
    assert strace, "This test needs strace: apt-get install strace"
    home, log = folder / "home", folder / "calls"
    places = {
        "HOME": home,
        "TMPDIR": home / "tmp",
        "XDG_CACHE_HOME": home / ".cache",
        "XDG_CONFIG_HOME": home / ".config",
    }
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    # USER spares a look at the accounts, which asks the same daemon as a look-up of a host. OpenVINO reports nothing
    # where CI is set.
    whole = {
        **os.environ,
        **{name: str(place) for name, place in places.items()},
        "USER": "watched",
        "CI": "",
        **environment,
    }
    done = subprocess.run(
        [
            strace,
            "--follow-forks",
            "--seccomp-bpf",
            "--string-limit=512",
            "-qq",
            "-e",
            _CALLS,
            "-o",
            str(log),
            *command,
        ],
        env={name: value for name, value in whole.items() if value},
        capture_output=True,
        text=True,
        timeout=280,
    )
    calls = log.read_text("utf-8", "replace").splitlines()
    return Watched(
        done,
        sorted({place for call in calls if (place := _outside(call))}),
        sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()),
        sorted({found[1] for call in calls if (found := _CREATED.search(call))}),
    )


def _outside(call: str) -> str | None:
    """The address that a call turns to, if that is beyond this machine or resolves names."""
    found = _SOCKET.search(call)
    if found is None:
        return None
    if found["family"] == "UNIX":
        path = _UNIX.search(found["rest"])
        return path[1] if path and ("nscd" in path[1] or "resolve" in path[1].lower()) else None
    if found["family"] not in ("INET", "INET6"):
        return None
    address, port = _ADDRESS.search(found["rest"]), _PORT.search(found["rest"])
    assert address, call
    assert port, call
    host = address[1] or address[2]
    here = host.startswith("127.") or host in ("::1", "0.0.0.0", "::")
    return None if here and int(port[1]) != _DNS else f"{host}:{port[1]}"
