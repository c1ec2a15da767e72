"""Prepared graphs: the same results, whole or not there, never another processor's."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_sdk.errors import BundleCorrupt, DeviceBusy, NoRoomToPrepare, PreparedElsewhere
from edge_sdk.inference import BACKENDS, Bundle, NotPrepared
from edge_sdk.inference.bundle.graph import Graph
from edge_sdk.inference.runtime import cache as caching
from edge_sdk.inference.runtime import prepare
from edge_sdk.inference.runtime.backends import Settings
from edge_sdk.inference.runtime.stages import Stages
from tests.inference.graphs import ones, write_bundle, write_chain
from tests.inference.test_backends import unet_feed
from tests.models import tiny_bundle


@pytest.fixture
def everything_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "SMALL", 0)


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return write_chain(tmp_path / "unet")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def in_cache(cache: Path) -> list[str]:
    """Folders of prepared graphs, and whatever else is not a lock."""
    return sorted(path.name for path in (cache / "prepared").iterdir() if path.suffix != ".lock")


# --- the same results -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.parametrize("stage", ["unet", "vae_decoder"])
def test_prepared_graphs_compute_the_same_to_the_last_bit(stage: str, cache: Path) -> None:
    bundle = Bundle.load(tiny_bundle())
    output, feeds = "sample", [{"latent_sample": unet_feed(False)["sample"]}]
    if stage == "unet":
        output, feeds = "out_sample", [unet_feed(False), unet_feed(True)]
    with Stages(bundle, threads=1, prepare=False) as plain, Stages(bundle, threads=1, cache=cache) as prepared:
        for feed in feeds:
            assert np.array_equal(plain.run(stage, [output], feed)[0], prepared.run(stage, [output], feed)[0])
    assert len(in_cache(cache)) == 1


@pytest.mark.usefixtures("everything_pays")
def test_preparing_happens_once(cache: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    for _ in range(2):
        with Stages(bundle, threads=1, cache=cache) as stages:
            stages.run("unet", ["y"], ones())
        (name,) = in_cache(cache)
        model = cache / "prepared" / name / "model.onnx"
        first = model.stat().st_mtime_ns
    assert model.stat().st_mtime_ns == first
    assert caching.size(cache) > 4 * 256 * 256 * 4
    with Stages(bundle, threads=1, prepare=False) as stages:
        stages.run("vae_decoder", ["y"], ones())
    assert in_cache(cache) == [name]
    assert caching.empty(cache) > 0
    assert caching.size(cache) == caching.empty(cache) == 0


def test_small_graphs_are_not_prepared(cache: Path, graph: Graph) -> None:
    assert not prepare.pays(graph)
    BACKENDS["cpu"].open(graph, Settings(threads=1, cache=cache))
    assert not cache.exists()


@pytest.mark.usefixtures("everything_pays")
def test_graphs_of_no_known_origin_are_not_prepared(cache: Path, graph: Graph) -> None:
    BACKENDS["cpu"].open(Graph(graph.path), Settings(threads=1, cache=cache))
    assert not cache.exists()


def test_the_estimate_of_disk_is_enough(cache: Path, tmp_path: Path) -> None:
    graph = write_chain(tmp_path / "unet", side=512)
    prepare.ready(graph, cache)
    assert graph.size < caching.size(cache) <= prepare.disk_needed(graph) + 10_000


def test_the_folder_is_chosen_by_argument_then_environment_then_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.delenv("IMPASTO_CACHE", raising=False)
    if sys.platform == "linux":
        assert caching.cache_folder() == tmp_path / "user" / "impasto"
    monkeypatch.setenv("IMPASTO_CACHE", str(tmp_path / "own"))
    assert caching.cache_folder() == tmp_path / "own"
    assert caching.cache_folder(tmp_path / "given") == tmp_path / "given"


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *itertools.product(["model.onnx", "model.onnx_data"], ["cut", "flipped", "empty", "deleted"]),
        *itertools.product(["prepared.json"], ["cut", "empty", "deleted"]),
    ],
)
def test_damage_is_noticed_and_made_good(cache: Path, graph: Graph, name: str, damage: str) -> None:
    folder = prepare.ready(graph, cache).parent
    path = folder / name
    good = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    else:
        middle = len(good) // 2
        flipped = good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
        path.write_bytes({"cut": good[:middle], "flipped": flipped, "empty": b""}[damage])
    assert prepare.find(graph, cache) is None
    assert prepare.ready(graph, cache) == folder / "model.onnx"
    assert prepare.find(graph, cache) == folder / "model.onnx"
    assert in_cache(cache) == [folder.name]
    if name != "prepared.json":
        assert path.read_bytes() == good


def test_a_copy_is_read_once_and_then_known(cache: Path, graph: Graph, tmp_path: Path) -> None:
    folder = prepare.ready(graph, cache).parent
    other = tmp_path / "other"
    shutil.copytree(cache, other)
    copied = other / "prepared" / folder.name / "prepared.json"
    before = copied.read_bytes()
    assert prepare.find(graph, other) is not None
    noted = copied.read_bytes()
    assert noted != before
    assert prepare.find(graph, other) is not None
    assert copied.read_bytes() == noted


def test_another_processor_s_is_refused_by_name(cache: Path, graph: Graph) -> None:
    note = prepare.ready(graph, cache).with_name("prepared.json")
    content = msgspec.json.decode(note.read_bytes())
    note.write_bytes(msgspec.json.encode(content | {"processor": "Cortex-A76", "identity": "0" * 16}))
    with pytest.raises(PreparedElsewhere, match=r"another processor \(Cortex-A76; this is .*delete the folder"):
        prepare.ready(graph, cache)


def test_another_runtime_s_is_made_anew(cache: Path, graph: Graph) -> None:
    note = prepare.ready(graph, cache).with_name("prepared.json")
    content = msgspec.json.decode(note.read_bytes())
    note.write_bytes(msgspec.json.encode(content | {"onnxruntime": "1.0.0"}))
    assert prepare.find(graph, cache) is None
    assert prepare.ready(graph, cache).is_file()


def test_a_graph_that_was_changed_after_the_export_is_not_prepared(cache: Path, graph: Graph) -> None:
    weights = graph.path.with_name("model.onnx_data")
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(BundleCorrupt, match="not the file that was exported"):
        prepare.ready(graph, cache)
    assert in_cache(cache) == []


# --- disks ----------------------------------------------------------------------------------------------------------


def test_no_room_is_told_before_anything_is_written(cache: Path, graph: Graph) -> None:
    # A file of a terabyte with nothing in it.
    os.truncate(graph.path.with_name("model.onnx_data"), 2**40)
    with pytest.raises(NoRoomToPrepare, match=r"may take 2199\.\d GB in .*[MG]B are free: make room"):
        prepare.ready(graph, cache)
    assert not cache.exists()


@pytest.mark.usefixtures("everything_pays")
def test_a_cache_that_cannot_be_written_is_done_without(cache: Path, graph: Graph) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.warns(NotPrepared, match="used unprepared .*IMPASTO_CACHE"):
        session = BACKENDS["cpu"].open(graph, Settings(threads=1, cache=cache))
    wanted = BACKENDS["cpu"].open(graph, Settings(threads=1)).run(["y"], ones())[0]
    assert np.array_equal(session.run(["y"], ones())[0], wanted)
    # And the memory limit counts the weights, which are in memory then.
    settings = Settings(threads=1, cache=cache)
    assert BACKENDS["cpu"].resident_bytes(graph, settings) > graph.size


@pytest.mark.usefixtures("everything_pays")
def test_a_cache_that_can_only_be_read_is_read(cache: Path, graph: Graph) -> None:
    prepare.ready(graph, cache)
    for path in [*cache.rglob("*"), cache]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            BACKENDS["cpu"].open(graph, Settings(threads=1, cache=cache))
    finally:
        for path in [cache, *cache.rglob("*")]:
            path.chmod(0o755)


def test_prepared_weights_do_not_count_as_memory(cache: Path, tmp_path: Path) -> None:
    graph = write_chain(tmp_path / "unet", side=1024, layers=10)
    backend, settings = BACKENDS["cpu"], Settings(threads=1, cache=cache)
    assert prepare.pays(graph)
    assert backend.resident_bytes(graph, settings) < graph.size / 10
    assert backend.opening_bytes(graph, settings) > graph.size
    backend.open(graph, settings)
    assert backend.opening_bytes(graph, settings) == backend.resident_bytes(graph, settings)


# --- several processes, and power cuts ------------------------------------------------------------------------------

# Forks a child for every file operation that preparing consists of, and kills it there, as by `kill -9`. Prints what
# the cache held afterwards: "nothing" or "whole"; the last child is not killed.
_KILLED_EVERYWHERE = """
import os, signal, sys
from pathlib import Path
from edge_sdk.inference.runtime import cache as caching
from edge_sdk.inference.runtime import prepare
from edge_sdk.inference.bundle.graph import Graph
from edge_sdk.inference.bundle.index import hash_files

model, cache = map(Path, sys.argv[1:])
graph = Graph(model, hash_files(model.parent))

def prepare_until(operation):
    count = 0
    def audit(event, arguments):
        nonlocal count
        if event == "open" or event.startswith(("os.", "shutil.", "tempfile.")):
            count += 1
            if count == operation:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(audit)
    prepare.ready(graph, cache)
    os._exit(0)

for operation in range(1, 1000):
    child = os.fork()
    if child == 0:
        prepare_until(operation)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    print("whole" if prepare.find(graph, cache) else "nothing", killed, flush=True)
    if not killed:
        break
    caching.empty(cache) if prepare.find(graph, cache) else None
print(*sorted(path.name for path in (cache / "prepared").iterdir()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_being_killed_anywhere_leaves_nothing_or_a_whole_one(cache: Path, graph: Graph) -> None:
    command = [sys.executable, "-c", _KILLED_EVERYWHERE, str(graph.path), str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    *states, left = done.stdout.splitlines()
    assert len(states) > 15
    assert set(states[:-1]) == {"nothing True", "whole True"}
    assert states[-1] == "whole False"
    # What the killed ones had begun is gone.
    name = prepare.place(graph, cache).name
    assert left.split() == [f".{name}.lock", name]


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
@pytest.mark.parametrize("killed", [False, True])
def test_weights_that_are_cut_short_while_they_are_written(cache: Path, graph: Graph, killed: bool) -> None:
    """The system refuses to let the file grow, as a full disk does, or kills who tries."""
    script = f"""
import resource, signal, warnings
from pathlib import Path
from edge_sdk.inference import BACKENDS
from edge_sdk.inference.runtime import prepare
from edge_sdk.inference.runtime.backends import Settings
from edge_sdk.inference.bundle.graph import Graph
prepare.SMALL = 0
signal.signal(signal.SIGXFSZ, signal.{"SIG_DFL" if killed else "SIG_IGN"})
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
warnings.simplefilter("always")
graph = Graph(Path({str(graph.path)!r}), {dict(graph.hashes)!r})
BACKENDS["cpu"].open(graph, Settings(threads=1, cache=Path({str(cache)!r})))
print("opened")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    if killed:
        assert (done.returncode, done.stdout) == (-25, "")
        assert len(in_cache(cache)) == 1
    else:
        assert (done.returncode, done.stdout) == (0, "opened\n"), done.stderr
        assert "NotPrepared" in done.stderr
        assert in_cache(cache) == []
    assert prepare.find(graph, cache) is None
    prepare.ready(graph, cache)
    assert in_cache(cache) == [prepare.place(graph, cache).name]


def test_processes_that_begin_at_once_share_one_preparation(cache: Path, tmp_path: Path) -> None:
    graph = write_chain(tmp_path / "unet", side=1024)
    script = (
        "import sys; from pathlib import Path; from edge_sdk.inference.runtime import prepare\n"
        "from edge_sdk.inference.bundle.graph import Graph\n"
        f"graph = Graph(Path({str(graph.path)!r}), {dict(graph.hashes)!r})\n"
        "print(flush=True); sys.stdin.read()\n"
        f"print(prepare.ready(graph, Path({str(cache)!r})).stat().st_ino)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
    answers = {process.communicate(timeout=120)[0] for process in started}
    assert [process.returncode for process in started] == [0, 0, 0]
    assert answers == {f"{(prepare.place(graph, cache) / 'model.onnx').stat().st_ino}\n"}
    assert in_cache(cache) == [prepare.place(graph, cache).name]


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock: there nobody waits.")
def test_who_waits_too_long_for_another_process_goes_on_unprepared(
    cache: Path, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr(prepare, "PATIENCE", 0.01)
    place = prepare.place(graph, cache)
    place.parent.mkdir(parents=True)
    with place.with_name(f".{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DeviceBusy, match=r"has held .* for 0.01 s"):
            prepare.ready(graph, cache)
        with pytest.warns(NotPrepared, match="Another process has held"):
            session = BACKENDS["cpu"].open(graph, Settings(threads=1, cache=cache))
    assert np.isfinite(session.run(["y"], ones())[0]).all()
    assert in_cache(cache) == []
