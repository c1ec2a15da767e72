"""Opening and closing of stages, under memory limits and from several threads."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.errors import BundleCorrupt, BundleError, DeviceBusy, MemoryLimitTooSmall
from edge_sdk.inference import Bundle
from edge_sdk.inference.runtime import stages as stages_module
from edge_sdk.inference.runtime.memory import PROCESS, working_set
from edge_sdk.inference.runtime.stages import Stages, graph_of, graphs
from tests.inference.graphs import STAGES, ones, write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("bundle"))


def weights(bundle: Bundle) -> int:
    """Estimated bytes of a stage while it is opened: the same for all of this bundle, and less at rest."""
    return int(1.2 * graph_of(bundle, "unet").size)


def opened_after_each(stages: Stages) -> list[tuple[str, ...]]:
    """Run on no rows at all, so that only weights count."""
    seen = []
    for stage in (*STAGES, "unet"):
        stages.run(stage, ["y"], ones(rows=0))
        seen.append(stages.opened)
    return seen


def test_without_a_limit_every_stage_stays_open(bundle: Bundle) -> None:
    with Stages(bundle, threads=1) as stages:
        assert stages.opened == ()
        assert opened_after_each(stages)[-1] == ("text_encoder", "vae_decoder", "unet")
    assert stages.opened == ()


@pytest.mark.parametrize(
    ("fit", "opened"),
    [
        (1, [("text_encoder",), ("unet",), ("vae_decoder",), ("unet",)]),
        (2, [("text_encoder",), ("text_encoder", "unet"), ("unet", "vae_decoder"), ("vae_decoder", "unet")]),
    ],
)
def test_what_has_rested_longest_is_closed_before_another_is_opened(
    bundle: Bundle, fit: int, opened: list[tuple[str, ...]]
) -> None:
    with Stages(bundle, threads=1, memory_limit=PROCESS + fit * weights(bundle)) as stages:
        assert opened_after_each(stages) == opened


def test_work_needs_room_too(bundle: Bundle) -> None:
    work = working_set("vae_decoder", ones())
    with Stages(bundle, threads=1, memory_limit=PROCESS + 2 * weights(bundle) + work - 1) as stages:
        stages.run("unet", ["y"], ones())
        stages.run("text_encoder", ["y"], ones(rows=0))
        assert stages.opened == ("unet", "text_encoder")
        stages.run("vae_decoder", ["y"], ones())
        assert stages.opened == ("text_encoder", "vae_decoder")


def test_a_limit_changes_no_result(bundle: Bundle) -> None:
    with Stages(bundle, threads=1) as free, Stages(bundle, threads=1, memory_limit="120MB") as limited:
        for stage in (*STAGES, *STAGES):
            assert np.array_equal(free.run(stage, ["y"], ones())[0], limited.run(stage, ["y"], ones())[0])


def test_a_limit_below_the_weights_is_refused_at_once(bundle: Bundle) -> None:
    with pytest.raises(MemoryLimitTooSmall, match=r"text_encoder needs about 81 MB, the memory limit is 1 MB"):
        Stages(bundle, memory_limit="1MB")


_MEMORY = """
import sys
from pathlib import Path
import numpy as np
from edge_sdk.inference import Bundle, BundleIndex
from edge_sdk.inference.runtime.memory import PROCESS, working_set
from edge_sdk.inference.runtime.stages import Stages
import msgspec

def anonymous():
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon"))) * 1024

folder = Path(sys.argv[1])
bundle = Bundle(folder, msgspec.json.decode((folder / "impasto.json").read_bytes(), type=BundleIndex))
feed = {"x": np.ones((1, 1024), np.float32)}
limit = PROCESS + working_set("unet", feed) + 5_000_000 if sys.argv[2] == "limited" else None
with Stages(bundle, threads=1, memory_limit=limit, prepare=False) as stages:
    before = anonymous()
    result = stages.run("unet", ["y"], feed)[0]
    print(anonymous() - before, float(result.sum()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_weights_stay_in_their_file_where_they_would_not_fit(tmp_path: Path) -> None:
    """Unprepared: a stage whose weights are in a file of their own needs no room for them, only some more time."""
    bundle = write_bundle(tmp_path, side=1024)
    size = graph_of(bundle, "unet").size
    taken, results = [], []
    for limit in ("none", "limited"):
        command = [sys.executable, "-c", _MEMORY, str(tmp_path), limit]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        grown, result = map(float, done.stdout.split())
        taken.append(grown)
        results.append(result)
    assert taken[0] > 0.9 * size
    assert taken[1] < 0.3 * size
    assert results[1] == pytest.approx(results[0], rel=1e-4)


def test_a_picture_that_does_not_fit_says_how_much_it_needs(bundle: Bundle) -> None:
    with Stages(bundle, threads=1, memory_limit=PROCESS + 2 * weights(bundle) + working_set("unet", ones())) as stages:
        stages.run("unet", ["y"], ones())
        with pytest.raises(MemoryLimitTooSmall, match=r"unet needs about \d+ MB.*fewer pictures"):
            stages.run("unet", ["y"], ones(rows=100))
        assert stages.opened == ("unet",)
        stages.run("unet", ["y"], ones())


def test_threads_share_a_limit(bundle: Bundle) -> None:
    with Stages(bundle, threads=1) as free:
        wanted = {stage: free.run(stage, ["y"], ones())[0] for stage in STAGES}
    wrong: list[object] = []
    # No two stages fit while one of them works.
    limit = PROCESS + weights(bundle) + working_set("text_encoder", ones())
    with Stages(bundle, threads=1, memory_limit=limit) as stages:

        def work(order: tuple[str, ...]) -> None:
            for stage in order * 5:
                result = stages.run(stage, ["y"], ones())[0]
                if not np.array_equal(result, wanted[stage]):
                    wrong.append(stage)

        orders = (STAGES, STAGES[::-1], (STAGES[1], STAGES[0], STAGES[2]))
        workers = [threading.Thread(target=work, args=(order,)) for order in orders]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert wrong == []


def test_closing_waits_for_who_draws_and_refuses_who_comes_later(bundle: Bundle) -> None:
    stages = Stages(bundle, threads=1)
    begun = threading.Barrier(3)
    ended: list[BaseException] = []

    def work() -> None:
        stages.run("unet", ["y"], ones())
        begun.wait()
        try:
            while True:
                stages.run("unet", ["y"], ones())
        except BundleError as error:
            ended.append(error)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    begun.wait()
    stages.close()
    assert stages.opened == ()
    for worker in workers:
        worker.join()
    assert [str(error) for error in ended] == ["This generator was closed: load another one."] * 2
    stages.close()


def test_nobody_waits_for_ever(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages_module, "PATIENCE", 0.01)
    # There is no room for two stages while one of them works.
    limit = PROCESS + weights(bundle) + working_set("unet", ones())
    stages = Stages(bundle, threads=1, memory_limit=limit)
    with stages._running("unet", working_set("unet", ones())):
        with pytest.raises(DeviceBusy, match=r"vae_decoder waited 0.01 s for unet and its memory: draw less at once"):
            stages.run("vae_decoder", ["y"], ones(rows=0))
        with pytest.raises(DeviceBusy, match=r"unet did not finish within 0.01 s"):
            stages.close()
    stages.close()
    assert stages.opened == ()


@pytest.mark.parametrize("damage", ["model.onnx", "model.onnx_data"])
@pytest.mark.parametrize("backend", ["cpu", "openvino"])
def test_truncated_weights_are_named(tmp_path: Path, damage: str, backend: str) -> None:
    bundle = write_bundle(tmp_path)
    path = tmp_path / "unet" / damage
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with Stages(bundle, threads=1, backend=backend) as stages:
        with pytest.raises(BundleCorrupt, match=r"(?s)unet/model\.onnx .*export or copy the bundle again"):
            stages.run("unet", ["y"], ones())
        # The others are still good.
        stages.run("text_encoder", ["y"], ones())
        assert stages.opened == ("text_encoder",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threads": 0}, "threads must be at least 1"),
        ({"backend": "magic"}, "choose one of auto, cuda, .*cpu"),
        ({"precision": "f8"}, "choose one of auto, bf16, f32"),
        ({"memory_limit": "much"}, "is no size"),
    ],
)
def test_arguments_that_make_no_sense(bundle: Bundle, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stages(bundle, **arguments)


def test_the_graphs_of_a_bundle(bundle: Bundle) -> None:
    found = graphs(bundle)
    assert tuple(found) == (*STAGES, "vae_encoder")
    assert set(found["unet"].hashes) == {"model.onnx", "model.onnx_data"}
    assert found["unet"].size > 256 * 256 * 4 * 4
