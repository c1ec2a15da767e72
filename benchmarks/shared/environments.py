"""Environments that hold the packages of benchmarks.inference's rows, and their sizes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.shared.harness import Row, folder_mb

# Environment -> pip's arguments to install its packages.
INSTALLS: Mapping[str, Sequence[str]] = {
    "ours": (".",),
    "ours-openvino": (".[openvino]",),
    "torch": ("-c", "constraints.txt", "torch", "diffusers", "transformers", "peft", "accelerate"),
    "optimum": ("-c", "constraints.txt", "torch", "optimum-onnx[onnxruntime]", "diffusers"),
    "openvino-genai": ("openvino-genai",),
    "optimum-intel": ("-c", "constraints.txt", "torch", "optimum-intel", "openvino-tokenizers", "diffusers"),
    "stable-diffusion-cpp-python": ("stable-diffusion-cpp-python",),
}
INSTALL_OF = {
    "torch fp32": "torch",
    "torch bf16": "torch",
    "optimum": "optimum",
    "OpenVINO bf16, no slots": "openvino-genai",
    "OpenVINO GenAI bf16": "openvino-genai",
    "stable-diffusion.cpp q8_0": "stable-diffusion-cpp-python",
    "stable-diffusion.cpp f16": "stable-diffusion-cpp-python",
    "ours fp32": "ours",
    "ours int8": "ours",
    "ours OpenVINO bf16": "ours-openvino",
}
# Rows that run in such an environment; the others run in this one.
APART = ("OpenVINO GenAI bf16", "stable-diffusion.cpp q8_0", "stable-diffusion.cpp f16")


def python_of(row: str, environments: Path) -> Path:
    """The interpreter that a row runs in."""
    return environments / INSTALL_OF[row] / "bin" / "python" if row in APART else Path(sys.executable)


def run_python(python: Path, code: str, *given: Path) -> None:
    """Run code with paths as its arguments.

    Raises:
        RuntimeError: it failed; the message is its last line of output.
    """
    done = subprocess.run(
        # edge_sdk, imported first, switches the telemetry of the rivals' libraries off.
        [str(python), "-c", f"import edge_sdk\n{code}", *map(str, given)],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])


@contextmanager
def once(target: Path) -> Iterator[Path | None]:
    """A folder to fill in, renamed to `target` at the end; None if `target` exists already."""
    if target.exists():
        yield None
        return
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    yield part
    part.rename(target)


def installed(environments: Path) -> dict[str, float]:
    """Environment -> megabytes of its packages, which are all that it holds; without those that do not install."""
    code = (
        "from importlib.metadata import distributions as d\n"
        "print(sum(f.locate().stat().st_size for x in d() if x.name.lower() not in ('pip', 'setuptools')"
        " for f in x.files or () if f.locate().is_file()))"
    )
    sizes: dict[str, float] = {}
    for name, what in INSTALLS.items():
        folder = environments / name
        try:
            with once(folder) as made:
                if made is not None:
                    subprocess.run([sys.executable, "-m", "venv", str(made)], check=True, timeout=60)
                    pip = [str(made / "bin" / "python"), "-m", "pip", "install", "--quiet", *what]
                    subprocess.run(pip, check=True, timeout=300)
            done = subprocess.run(
                [str(folder / "bin" / "python"), "-c", code], check=True, capture_output=True, text=True, timeout=60
            )
            sizes[name] = int(done.stdout) / 1e6
        except (subprocess.SubprocessError, OSError) as error:
            print(f"{name} could not be installed: {error}", file=sys.stderr)
    return sizes


def fetched() -> Row:
    """Megabytes that pip downloads to install a device that draws: its packages as wheels."""
    with tempfile.TemporaryDirectory(prefix="impasto-benchmark-") as folder:
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", folder]
        subprocess.run([*pip, "-c", "constraints.txt", *INSTALLS["ours"]], check=True, capture_output=True, timeout=300)
        return {"part": "fetched by pip", "row": "ours fp32", "fetched_mb": folder_mb(Path(folder))}
