"""Back ends: which work here, which only say so, and that all compute the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest

from edge_sdk.errors import BackendUnavailable, BundleCorrupt, DeviceError
from edge_sdk.inference import BACKENDS, Bundle
from edge_sdk.inference.bundle.graph import Graph
from edge_sdk.inference.bundle.onnx_file import drop_defaults, matmul
from edge_sdk.inference.runtime.backends import AUTO, Settings, choose, probe, rate
from edge_sdk.inference.runtime.backends.providers import Provider
from edge_sdk.inference.runtime.stages import Stages
from tests.inference.graphs import ones, write_chain
from tests.models import LATENT_SHAPE, WIDTH, tiny_bundle

ONE_THREAD = Settings(threads=1)
HERE = ("openvino", "cpu")


class Azure(Provider):
    """In every wheel for the CPU there is this provider, which runs nothing of a model and leaves all to the CPU."""

    name = "azure"
    title = "a provider that lies"
    provider = "AzureExecutionProvider"
    install = "there is nothing to install"


class Removed(Provider):
    """One that this build of onnxruntime does not have."""

    name = "removed"
    title = "a provider that is not there"
    provider = "ArmNNExecutionProvider"
    install = "it was removed"


def unet_feed(factors: bool) -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    feed = {
        "sample": rng.standard_normal((2, *LATENT_SHAPE), np.float32),
        "timestep": np.full(2, 500, np.float32),
        "encoder_hidden_states": rng.standard_normal((2, 32, WIDTH), np.float32),
    }
    for number, slot in enumerate(Bundle.load(tiny_bundle()).index.slots if factors else []):
        if number % 3:  # of mixed ranks, and not on every layer
            feed[slot.input_a] = rng.standard_normal((slot.in_features, number), np.float32) / 10
            feed[slot.input_b] = rng.standard_normal((number, slot.out_features), np.float32) / 10
    return feed


# --- probes and the choice ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HERE)
def test_what_works_here_passes_its_probe(name: str) -> None:
    verdict = probe(BACKENDS[name], ONE_THREAD)
    assert verdict.works, verdict.reason
    assert "ran one operation" in verdict.reason
    assert rate(BACKENDS[name], ONE_THREAD) > 1e8


def test_a_provider_that_lies_is_found_out() -> None:
    assert Azure.provider in ort.get_available_providers()
    verdict = probe(Azure(), ONE_THREAD)
    assert not verdict.works
    assert verdict.reason == "AzureExecutionProvider is there, but leaves the work to the CPU."
    with pytest.raises(DeviceError, match="nothing to measure: AzureExecutionProvider"):
        rate(Azure(), ONE_THREAD)


def test_a_provider_that_is_not_there_is_never_replaced_in_silence(tmp_path: Path) -> None:
    assert "built without ArmNNExecutionProvider: it was removed" in probe(Removed(), ONE_THREAD).reason
    with pytest.raises(BackendUnavailable, match="built without"):
        Removed().open(write_chain(tmp_path), ONE_THREAD)


@pytest.mark.parametrize("name", ["cuda", "tensorrt", "coreml", "qnn"])
def test_a_named_back_end_that_does_not_work_is_refused_with_the_reason(name: str) -> None:
    # Whatever machine this runs on: either the probe ran on it, or asking for it is an error that says why.
    verdict = probe(BACKENDS[name], ONE_THREAD)
    if verdict.works:
        assert choose(name, ONE_THREAD).backend is BACKENDS[name]
    else:
        with pytest.raises(BackendUnavailable, match=f"{name}' does not work here: .*impasto doctor"):
            choose(name, ONE_THREAD)


def test_auto_takes_the_first_that_works_and_says_why() -> None:
    choice = choose("auto", ONE_THREAD)
    works = [name for name in AUTO if probe(BACKENDS[name], ONE_THREAD).works]
    assert choice.backend.name == works[0]
    assert set(HERE) <= set(works)
    assert choice.reason.startswith("the fastest that works")
    assert all(name in choice.reason for name in AUTO[: AUTO.index(works[0])])
    with pytest.raises(ValueError, match=r"no back end 'gpu'; choose one of auto, cuda"):
        choose("gpu", ONE_THREAD)


def test_a_precision_that_the_processor_lacks_is_refused(tmp_path: Path) -> None:
    import openvino

    backend, settings = BACKENDS["openvino"], Settings(threads=1, precision="bf16")
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert probe(backend, settings).works
    else:
        assert "does not compute in bfloat16" in probe(backend, settings).reason


# --- the same results -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factors", [False, True])
def test_openvino_computes_what_onnx_runtime_computes(factors: bool) -> None:
    bundle = Bundle.load(tiny_bundle())
    feed = unet_feed(factors)
    with (
        Stages(bundle, threads=1) as one,
        Stages(bundle, threads=1, backend="openvino", precision="f32") as other,
        Stages(bundle, threads=1, backend="openvino") as fastest,
    ):
        wanted = one.run("unet", ["out_sample"], feed)[0]
        found = other.run("unet", ["out_sample"], feed)[0]
        rounded = fastest.run("unet", ["out_sample"], feed)[0]
        base = other.run("unet", ["out_sample"], unet_feed(False))[0]
    scale = np.abs(wanted).max()
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() < 1e-5 * scale
    # bfloat16 keeps 8 bits, and this network of random weights does not dampen what is lost.
    assert np.abs(rounded - wanted).max() < 0.2 * scale
    assert (np.abs(found - base).max() > 0.05 * scale) == factors


def test_openvino_keeps_the_results_of_a_run_when_the_next_one_begins(tmp_path: Path) -> None:
    session = BACKENDS["openvino"].open(write_chain(tmp_path), ONE_THREAD)
    first = session.run(["y"], ones())[0]
    kept = first.copy()
    session.run(["y"], {"x": 2 * ones()["x"]})
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("external", [False, True])
def test_openvino_leaves_nothing_behind(tmp_path: Path, external: bool) -> None:
    graph = write_chain(tmp_path, external=external)
    before = sorted(tmp_path.iterdir())
    assert len(before) == 1 + external
    session = BACKENDS["openvino"].open(graph, Settings(threads=1, precision="f32"))
    assert sorted(tmp_path.iterdir()) == before
    wanted = BACKENDS["cpu"].open(graph, ONE_THREAD).run(["y"], ones())[0]
    np.testing.assert_allclose(session.run(["y"], ones())[0], wanted, rtol=1e-4, atol=1e-5)


# --- the ONNX format ------------------------------------------------------------------------------------------------


def test_the_graph_of_the_probe_is_a_valid_model() -> None:
    model = onnx.load_from_string(matmul())
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["MatMul"]


@pytest.mark.parametrize("external", [False, True])
def test_dropping_defaults_drops_nothing_else(tmp_path: Path, external: bool) -> None:
    graph = write_chain(tmp_path, external=external)
    drop_defaults(graph.path, tmp_path / "plain.onnx")
    before, after = (onnx.load(path, load_external_data=False) for path in (graph.path, tmp_path / "plain.onnx"))
    dropped = {tensor.name for tensor in before.graph.initializer} - {t.name for t in after.graph.initializer}
    assert dropped == {"unet.a.lora_A.weight", "unet.a.lora_B.weight"}
    kept = [tensor for tensor in before.graph.initializer if tensor.name not in dropped]
    del before.graph.initializer[:]
    before.graph.initializer.extend(kept)
    assert after == before


@pytest.mark.parametrize("content", [b"", b"no model", b"\x0f", b"\x3a\xff\xff\xff\xff\x0f", b"\x3a\x80"])
def test_what_is_no_onnx_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    for name in HERE:
        with pytest.raises(BundleCorrupt):
            BACKENDS[name].open(Graph(tmp_path / "model.onnx"), ONE_THREAD)


def test_the_cpu_needs_no_other_runtime(tmp_path: Path) -> None:
    graph = write_chain(tmp_path)
    script = (
        "import sys; from pathlib import Path\n"
        "from edge_sdk.inference.runtime.backends import choose, Settings\n"
        "from edge_sdk.inference.bundle.graph import Graph\n"
        f"choose('cpu', Settings(threads=1)).backend.open(Graph(Path({str(graph.path)!r})), Settings(threads=1))\n"
        "print(*[name for name in ('openvino', 'onnx', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "\n"
