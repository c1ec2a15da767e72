"""Fuzz one decoder: python -m tests.fuzz TARGET --seconds 600 [--found FOLDER]

Guided by coverage where atheris is installed (`pip install "impasto[fuzz]"`), by chance elsewhere; both begin with the
same corpus and change it in the same ways. Whatever comes out but an ImpastoError, and every input that takes too
much memory, ends the run with exit code 1 and is written to FOLDER/TARGET.finding. The system bounds memory, too.
Linux only: it is asked how much memory was taken.
"""

from __future__ import annotations

import argparse
import atexit
import hashlib
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

NAMES_OF_OURS = ("edge_sdk", "coordinator", "tomllib", "json", "PIL", "base64")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--found", type=Path, help="folder for inputs that lead somewhere new, and for findings")
    parser.add_argument("--without-atheris", action="store_true", help="by chance, though atheris is installed")
    arguments = parser.parse_args()
    atheris = None if arguments.without_atheris else _atheris()
    if atheris:
        with atheris.instrument_imports(include=list(NAMES_OF_OURS), enable_loader_override=False):
            from tests.fuzz.corpus import inputs
            from tests.fuzz.targets import TARGETS
    else:
        from tests.fuzz.corpus import inputs
        from tests.fuzz.targets import TARGETS
    if arguments.target not in TARGETS:
        parser.error(f"no such target; there are {', '.join(TARGETS)}")
    found = arguments.found or Path(tempfile.mkdtemp(prefix="impasto-found-"))
    (found / arguments.target).mkdir(parents=True, exist_ok=True)
    begin = inputs(arguments.target)
    guard = Guard(TARGETS[arguments.target], found / f"{arguments.target}.finding")
    for data in begin:
        guard(data)
    print(f"{arguments.target}: {len(begin)} inputs to begin with, {'atheris' if atheris else 'by chance'}", flush=True)
    if atheris:
        _guided(atheris, arguments, guard, begin, found / arguments.target)
    else:
        _by_chance(arguments, guard, begin)
    print(f"{arguments.target}: {guard.runs} inputs, {guard.accepted} accepted, nothing found")
    return 0


class Guard:
    """Runs a target on inputs, and ends the process at the first finding."""

    def __init__(self, target: Any, finding: Path) -> None:
        self._target, self._finding = target, finding
        self.runs = self.accepted = 0
        self._peak = 0
        for data in target.examples():  # what is loaded at the first use is not the inputs' doing
            target(data)
        self._peak = _peak()
        # A brake, should one input take very much at once; far above what is asked of the decoder.
        limit = _of_status("VmSize") + 8 * target.memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

    def __call__(self, data: bytes) -> None:
        self.runs += 1
        try:
            self.accepted += self._target(data)
            before, self._peak = self._peak, _peak()
            taken = self._peak - before  # since the last input: the fuzzer itself grows with what it finds
            assert taken < self._target.memory + 20 * len(data), f"took {taken >> 20} MiB"
        except BaseException:
            self._finding.write_bytes(data)
            traceback.print_exc()
            print(f"FOUND {self._finding}", file=sys.stderr, flush=True)
            os._exit(1)


def _peak() -> int:
    """The most memory that this process has had, in bytes. (The system's getrusage counts the parent's, too.)"""
    return _of_status("VmHWM")


def _of_status(name: str) -> int:
    with open("/proc/self/status", "rb") as status:  # noqa: PTH123  before and after every input: no detours
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(name.encode()))


def _atheris() -> Any:
    try:
        import atheris
    except ImportError:
        return None
    return atheris


def _guided(atheris: Any, arguments: argparse.Namespace, guard: Guard, begin: list[bytes], found: Path) -> None:
    from tests.fuzz.mutation import mutate

    for data in begin:
        (found / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def change(data: bytes, max_size: int, seed: int) -> bytes:
        return mutate(data, random.Random(seed), lambda data: atheris.Mutate(data, max_size))[:max_size]

    def tell() -> None:
        print(f"{arguments.target}: {guard.runs} inputs, {guard.accepted} accepted, nothing found", flush=True)

    atexit.register(tell)  # libFuzzer ends the process itself
    options = [
        f"-max_total_time={arguments.seconds}",
        f"-seed={arguments.seed}",
        "-max_len=16384",
        "-print_final_stats=1",
    ]
    options += ["-rss_limit_mb=0", "-verbosity=0", f"-artifact_prefix={found.parent}/"]
    atheris.Setup([sys.argv[0], *options, str(found)], guard, custom_mutator=change)
    atheris.Fuzz()


def _by_chance(arguments: argparse.Namespace, guard: Guard, begin: list[bytes]) -> None:
    from tests.fuzz.mutation import mutate

    rng, until = random.Random(arguments.seed), time.monotonic() + arguments.seconds
    pool = list(begin)
    while time.monotonic() < until:
        data, accepted = mutate(rng.choice(pool), rng)[:16384], guard.accepted
        guard(data)
        if guard.accepted > accepted and len(pool) < 2000:  # valid, and not like the others: worth changing further
            pool.append(data)


if __name__ == "__main__":
    sys.exit(main())
