"""Every input that fuzzing found worth keeping, replayed: each is accepted, or refused by an ImpastoError."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.corpus import FOLDER, inputs
from tests.fuzz.mutation import mutate
from tests.fuzz.targets import TARGETS


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged metadata
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_our_errors_comes_out(name: str) -> None:
    target = TARGETS[name]
    assert all(target(data) for data in target.examples()), "examples are valid"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data in inputs(name):
        target(data)
    unit = 1 if sys.platform == "darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < target.memory


def test_the_corpus_is_small_and_has_something_of_every_target() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 300_000
    assert {path.parent.name for path in files} == set(TARGETS)


def test_mutations_stay_near_and_are_repeatable() -> None:
    for name, target in TARGETS.items():
        example = target.examples()[0]
        changed = [mutate(example, random.Random(seed)) for seed in range(50)]
        assert changed == [mutate(example, random.Random(seed)) for seed in range(50)], name
        assert len(set(changed)) > 25, name


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the harness asks Linux for memory")
def test_a_finding_ends_the_run_and_is_kept(tmp_path: Path) -> None:
    """An input that takes too much memory, on a decoder that is made for it."""
    program = (
        "import pathlib, sys\n"
        "from tests.fuzz.__main__ import Guard\n"
        "from tests.fuzz.targets import Target\n"
        "guard = Guard(Target(lambda data: len(bytearray(b'x' * len(data) * 10**6)), lambda: [b'a']),\n"
        "              pathlib.Path(sys.argv[1]))\n"
        "guard(b'ab')\n"
        "guard(b'c' * 150)\n"
        "print('survived')\n"
    )
    found = tmp_path / "finding"
    done = subprocess.run([sys.executable, "-c", program, str(found)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stdout
    assert "FOUND" in done.stderr
    assert found.read_bytes() == b"c" * 150
