"""One way of running a UNet, in a process of its own that steps on command.

benchmarks.inference starts `main` with a row and the folder of its models: model/, fp32/, int8/, optimum/,
adapter-N.safetensors. Commands come as lines of JSON: {"do": "load"}, {"do": "adapt", "adapters": N}, {"do": "step",
"batch": B}; each is answered by a line with "seconds" and the peaks of memory in bytes. Only the row's own packages are
imported, so that the memory measured is the row's own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.shared.memory import Peak, anonymous, total_peak

# stable-diffusion.cpp's environment has no NumPy, and needs none.
with suppress(ImportError):
    import numpy as np

WEIGHTS = (0.7, 0.5, 0.3)
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class CannotDo(Exception):
    """The library has no way to do this; the message gives the reason or the alternative."""


class Rival(ABC):
    """A UNet that a library runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def load(self) -> None:
        """Read the weights and get ready to step; imports are done before, in `__init__`."""

    @abstractmethod
    def step(self, batch: int) -> Any:
        """Run the UNet once and return its result."""

    # The folder of the UNet that it opens; `prepares`: true if it lays that out on disk for this processor.
    opens: ClassVar[str]
    prepares: ClassVar[bool] = False
    # False if changing adapters is work inside a drawing, and not in `adapt`.
    adapts_apart: ClassVar[bool] = True

    def adapt(self, adapters: int) -> None:
        """Use the first `adapters` adapters."""
        raise CannotDo("adapters have to be fused before the export")

    def inputs(self, batch: int) -> dict[str, np.ndarray[Any, Any]]:
        """Random inputs, the same for every row."""
        config = json.loads((self.folder / "model" / "unet" / "config.json").read_text("utf-8"))
        rng = np.random.default_rng(0)
        side = config["sample_size"]
        return {
            "sample": rng.standard_normal((2, 4, side, side), np.float32)[:batch],
            "encoder_hidden_states": rng.standard_normal((2, 77, config["cross_attention_dim"]), np.float32)[:batch],
        }


class Torch(Rival):
    """diffusers, with adapters through PEFT's set_adapters. "No adapter" is measured with the adapters disabled."""

    opens = "model/unet"

    dtype: ClassVar[str] = "float32"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import torch
        from diffusers import UNet2DConditionModel

        torch.set_num_threads(THREADS)
        self._torch, self._class, self._adapted = torch, UNet2DConditionModel, False

    def load(self) -> None:
        dtype = getattr(self._torch, self.dtype)
        unet = self._class.from_pretrained(self.folder / "model" / "unet", torch_dtype=dtype)
        self._unet = unet.eval().to(memory_format=self._torch.channels_last)

    def adapt(self, adapters: int) -> None:
        names = [f"a{number}" for number in range(len(WEIGHTS))]
        if not self._adapted:
            for number, name in enumerate(names):
                file = f"adapter-{number}.safetensors"
                self._unet.load_lora_adapter(self.folder / file, prefix="unet", adapter_name=name)
            self._adapted = True
        if not adapters:
            self._unet.disable_lora()
        else:
            self._unet.enable_lora()
            self._unet.set_adapters(names[:adapters], list(WEIGHTS[:adapters]))

    def step(self, batch: int) -> Any:
        dtype = getattr(self._torch, self.dtype)
        given = {name: self._torch.from_numpy(value).to(dtype) for name, value in self.inputs(batch).items()}
        sample = given["sample"].to(memory_format=self._torch.channels_last)
        with self._torch.no_grad():
            return self._unet(sample, 601, given["encoder_hidden_states"]).sample.float().numpy()


class TorchBfloat16(Torch):
    """The same with weights in bfloat16."""

    dtype = "bfloat16"


class Optimum(Rival):
    """optimum's own export, opened as optimum opens it: ONNX Runtime with default options."""

    opens = "optimum/unet"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import onnxruntime

        self._ort = onnxruntime

    def load(self) -> None:
        path = self.folder / "optimum" / "unet" / "model.onnx"
        self._session = self._ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def step(self, batch: int) -> Any:
        timestep = next(given for given in self._session.get_inputs() if given.name == "timestep")
        dtype = np.int64 if "int64" in timestep.type else np.float32
        feed = {**self.inputs(batch), "timestep": np.full([1] * len(timestep.shape), 601, dtype)}
        return self._session.run(None, feed)[0]


class PlainOpenVino(Rival):
    """OpenVINO in bfloat16 on optimum's export, which has no LoRA slots."""

    opens = "optimum/unet"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import openvino

        self._core = openvino.Core()

    def load(self) -> None:
        model = self._core.read_model(self.folder / "optimum" / "unet" / "model.onnx")
        options = {
            "INFERENCE_PRECISION_HINT": "bf16",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": THREADS,
        }
        self._request = self._core.compile_model(model, "CPU", options).create_infer_request()

    def step(self, batch: int) -> Any:
        port = self._request.model_inputs[[port.any_name for port in self._request.model_inputs].index("timestep")]
        timestep = np.full([1] * len(port.partial_shape), 601, port.element_type.to_dtype())
        return np.array(self._request.infer({**self.inputs(batch), "timestep": timestep})[0])


class Ours(Rival):
    """The bundle's UNet through a back end, prepared for this processor where that back end prepares."""

    opens = "fp32/unet"
    prepares = True

    precision: ClassVar[str] = "fp32"
    backend: ClassVar[str] = "cpu"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from edge_sdk import adapter
        from edge_sdk.inference.bundle import Bundle, hash_files
        from edge_sdk.inference.runtime import BACKENDS

        if self.backend == "openvino":
            # Imports come before loading, as in every row.
            import openvino  # noqa: F401
        self._bundle = Bundle.load(folder / "fp32", verify=False)
        self._hashes = hash_files(folder / self.precision / "unet")
        self._slots = {slot.name: slot for slot in self._bundle.index.slots}
        files = sorted(folder.glob("adapter-*.safetensors"))
        self._adapters = [adapter.load(file) for file in files]
        self._backend, self._feed = BACKENDS[self.backend], dict[str, Any]()

    def load(self) -> None:
        from edge_sdk.inference.bundle import Graph
        from edge_sdk.inference.runtime import Settings

        hashes = {name: value for name, value in self._hashes.items() if name.startswith("model.onnx")}
        graph = Graph(self.folder / self.precision / "unet" / "model.onnx", hashes)
        self._session = self._backend.open(graph, Settings(cache=self.folder / "cache"))

    def adapt(self, adapters: int) -> None:
        from edge_sdk.inference.adapters import to_feed

        self._feed = to_feed(list(zip(self._adapters[:adapters], WEIGHTS, strict=False)), self._slots)

    def step(self, batch: int) -> Any:
        feed = {**self.inputs(batch), "timestep": np.full(batch, 601, np.float32), **self._feed}
        return self._session.run(["out_sample"], feed)[0]


class OursInt8(Ours):
    """The bundle's UNet in int8."""

    opens = "int8/unet"
    precision = "int8"


class OursOpenVino(Ours):
    """The bundle's UNet through OpenVINO."""

    prepares = False
    backend = "openvino"


class OpenVinoGenAi(Rival):
    """OpenVINO GenAI in bfloat16 on optimum-intel's conversion. It draws whole pictures: a step's time is the time
    between its first two reports; then it is told to stop. It changes adapters inside a drawing."""

    opens = "genai/unet"

    adapts_apart = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import openvino_genai

        self._library = openvino_genai

    def load(self) -> None:
        files = sorted((self.folder / "genai").glob("adapter-*.safetensors"))
        self._adapters = [self._library.Adapter(str(file)) for file in files]
        self._model = self._library.Text2ImagePipeline(
            str(self.folder / "genai"),
            "CPU",
            adapters=self._config(len(files)),
            INFERENCE_PRECISION_HINT="bf16",
            INFERENCE_NUM_THREADS=THREADS,
        )
        self._used = self._config(0)

    def adapt(self, adapters: int) -> None:
        self._used = self._config(adapters)

    def step(self, batch: int) -> Any:
        times: list[float] = []

        def report(step: int, steps: int, latents: Any) -> bool:
            times.append(time.perf_counter())
            return len(times) == 2

        self._model.generate(
            "a fox",
            width=512,
            height=512,
            num_inference_steps=4,
            guidance_scale=1.0 if batch == 1 else 7.5,
            adapters=self._used,
            callback=report,
        )
        return [times[1] - times[0]]

    def _config(self, adapters: int) -> Any:
        config = self._library.AdapterConfig()
        for one, weight in zip(self._adapters[:adapters], WEIGHTS, strict=False):
            config.add(one, weight)
        return config


class StableDiffusionCpp(Rival):
    """stable-diffusion.cpp, which draws whole pictures only: a step's time is its own report of the sampling."""

    opens = "model/unet"

    kind: ClassVar[str] = "q8_0"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import stable_diffusion_cpp

        self._library = stable_diffusion_cpp

    def load(self) -> None:
        self._model = self._library.StableDiffusion(
            model_path=str(self.folder / "model"), n_threads=THREADS, wtype=self.kind, verbose=False
        )

    def step(self, batch: int) -> Any:
        times: list[float] = []
        self._model.generate_image(
            prompt="a fox",
            width=512,
            height=512,
            sample_steps=1,
            cfg_scale=1.0 if batch == 1 else 7.5,
            seed=1,
            progress_callback=lambda step, steps, seconds: times.append(seconds),
        )
        return times


class StableDiffusionCppF16(StableDiffusionCpp):
    """The same with weights in float16."""

    kind = "f16"


ROWS: Mapping[str, type[Rival]] = {
    "torch fp32": Torch,
    "torch bf16": TorchBfloat16,
    "optimum": Optimum,
    "OpenVINO bf16, no slots": PlainOpenVino,
    "OpenVINO GenAI bf16": OpenVinoGenAi,
    "stable-diffusion.cpp q8_0": StableDiffusionCpp,
    "stable-diffusion.cpp f16": StableDiffusionCppF16,
    "ours fp32": Ours,
    "ours int8": OursInt8,
    "ours OpenVINO bf16": OursOpenVino,
}


def _answer(rival: Rival, command: Mapping[str, Any]) -> dict[str, Any]:
    result: Any = None

    def run() -> None:
        nonlocal result
        if command["do"] == "load":
            rival.load()
        elif command["do"] == "adapt":
            rival.adapt(command["adapters"])
        else:
            result = rival.step(command["batch"])

    answer: dict[str, Any] = {}
    began = time.perf_counter()
    if command.get("watch"):
        with Peak() as peak:
            run()
        answer["anonymous_peak"] = peak.bytes
    else:
        run()
    answer["seconds"] = time.perf_counter() - began
    if isinstance(result, list):
        answer["reported"] = result
    elif result is not None and (file := command.get("save")):
        np.save(file, result)
    return answer | {"anonymous": anonymous(), "peak": total_peak()}


def main() -> None:
    """Answer commands until the input ends."""
    # Libraries may print to standard output; the answers keep the real one.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    rival = ROWS[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            answer = _answer(rival, json.loads(line))
        except CannotDo as reason:
            answer = {"cannot": str(reason)}
        # A library's error is that row's result.
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), file=answers, flush=True)
