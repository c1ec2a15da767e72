"""Files that want to do harm, as bytes: what is in them, and by which error they are refused."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from typing import Any

import numpy as np

from edge_sdk.errors import AdapterError, AdapterFormatError, AdapterValueError

LAYER = "unet.mid.attn.to_q"
A, B = f"{LAYER}.lora_A.weight", f"{LAYER}.lora_B.weight"


def safetensors(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header, whatever it says; `length`: what its first eight bytes claim."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def pair(**changes: Any) -> bytes:
    """An honest file of rank 2 for one layer of 4 to 3 features, with changes to its header."""
    header: dict[str, Any] = {A: tensor([2, 4], 0, 32), B: tensor([3, 2], 32, 56)}
    header.update(changes)
    return safetensors({key: value for key, value in header.items() if value is not None}, bytes(56))


def valued(value: float, dtype: str = "F32") -> bytes:
    """The same with a number in it."""
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
    if dtype == "BF16":
        raw = (np.full(14, value, "<f4").view("<u4") >> 16).astype("<u2").tobytes()
    else:
        raw = np.full(14, value).astype(kinds[dtype]).tobytes()
    size = len(raw) // 14
    return safetensors({A: tensor([2, 4], 0, 8 * size, dtype), B: tensor([3, 2], 8 * size, 14 * size, dtype)}, raw)


def many(count: int) -> bytes:
    """So many layers, each of four numbers of zero."""
    header: dict[str, Any] = {}
    for number in range(count):
        header[f"unet.l{number}.lora_A.weight"] = tensor([1, 1], 8 * number, 8 * number + 4)
        header[f"unet.l{number}.lora_B.weight"] = tensor([1, 1], 8 * number + 4, 8 * number + 8)
    return safetensors(header, bytes(8 * count))


def bomb() -> bytes:
    """A zip of 64 MiB of zeros, a thousandth as large."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open("0", "w") as inner:
        for _ in range(64):
            inner.write(bytes(1 << 20))
    return file.getvalue()


class _Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('a pickle was run')",))


METADATA = {"format": "pt"}
FILES: dict[str, tuple[bytes, type[AdapterError]]] = {
    "empty": (b"", AdapterFormatError),
    "seven bytes": (bytes(7), AdapterFormatError),
    "eight bytes": (bytes(8), AdapterFormatError),
    "a header of 2^63 bytes": (safetensors({}, length=2**63), AdapterFormatError),
    "a header of 2^64 - 1 bytes": (safetensors({}, length=2**64 - 1), AdapterFormatError),
    "a header of 2 GB": (safetensors({}, length=2**31), AdapterFormatError),
    "a header longer than the file": (safetensors(b"{}", length=3), AdapterFormatError),
    "a header that is no JSON": (safetensors(b"{'a': 1}"), AdapterFormatError),
    "a header that is a list": (safetensors([]), AdapterFormatError),
    "a header that is a number": (safetensors(b"1" * 100), AdapterFormatError),
    "a header of a million brackets": (safetensors(b"[" * 1_000_000), AdapterFormatError),
    "a header of maps in maps": (safetensors(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), AdapterFormatError),
    "a header that is no UTF-8": (safetensors(b'{"\xff": 1}'), AdapterFormatError),
    "no tensors": (safetensors({}), AdapterFormatError),
    "a pickle": (pickle.dumps(_Harm()), AdapterFormatError),
    "a pickle behind a header's length": (safetensors(pickle.dumps(_Harm())), AdapterFormatError),
    "a zip bomb": (bomb(), AdapterFormatError),
    "offsets beyond the file": (pair(**{B: tensor([3, 2], 32, 2**40)}), AdapterFormatError),
    "offsets of 2^64": (pair(**{B: tensor([3, 2], 32, 2**64)}), AdapterFormatError),
    "offsets that overlap": (pair(**{B: tensor([3, 2], 8, 32)}), AdapterFormatError),
    "offsets backwards": (pair(**{B: tensor([3, 2], 56, 32)}), AdapterFormatError),
    "offsets below zero": (pair(**{A: tensor([2, 4], -32, 0)}), AdapterFormatError),
    "a hole between tensors": (pair(**{B: tensor([2, 2], 40, 56)}), AdapterFormatError),
    "bytes that nobody owns": (pair() + bytes(100), AdapterFormatError),
    "a file cut short": (pair()[:-1], AdapterFormatError),
    "a shape that does not fit": (pair(**{A: tensor([2, 5], 0, 32)}), AdapterFormatError),
    "a shape below zero": (pair(**{A: tensor([-2, -4], 0, 32)}), AdapterFormatError),
    "a shape whose product overflows": (pair(**{A: tensor([2**33, 2**33], 0, 32)}), AdapterFormatError),
    "a shape of a terabyte": (pair(**{A: tensor([2**20, 2**20], 0, 32)}), AdapterFormatError),
    "a shape of no dimensions": (pair(**{A: tensor([], 0, 4), B: tensor([13], 4, 56)}), AdapterFormatError),
    "a shape of three dimensions": (pair(**{A: tensor([2, 2, 2], 0, 32)}), AdapterFormatError),
    "a shape that is text": (pair(**{A: {"dtype": "F32", "shape": "2", "data_offsets": [0, 32]}}), AdapterFormatError),
    "a rank of zero": (
        safetensors({A: tensor([0, 4], 0, 0), B: tensor([3, 0], 0, 0)}),
        AdapterFormatError,
    ),
    "a dtype that there is not": (pair(**{A: tensor([2, 4], 0, 32, "F31")}), AdapterFormatError),
    "integers": (pair(**{A: tensor([2, 4], 0, 32, "I32")}), AdapterFormatError),
    "booleans": (pair(**{A: tensor([2, 16], 0, 32, "BOOL")}), AdapterFormatError),
    "eight-bit floats": (pair(**{A: tensor([2, 16], 0, 32, "F8_E4M3")}), AdapterFormatError),
    "one factor alone": (safetensors({A: tensor([2, 4], 0, 32)}, bytes(32)), AdapterFormatError),
    "factors of different ranks": (pair(**{B: tensor([2, 3], 32, 56)}), AdapterFormatError),
    "a rank of ten thousand": (
        safetensors({A: tensor([10_000, 1], 0, 40_000), B: tensor([1, 10_000], 40_000, 80_000)}, bytes(80_000)),
        AdapterFormatError,
    ),
    "a hundred thousand layers": (many(100_000), AdapterFormatError),
    "a way out of the folder": (
        safetensors({key.replace(LAYER, "../../etc/passwd"): t for key, t in
                     ((A, tensor([2, 4], 0, 32)), (B, tensor([3, 2], 32, 56)))}, bytes(56)),
        AdapterFormatError,
    ),
    "a name with a NUL": (
        safetensors({key.replace(LAYER, "unet.\0"): t for key, t in
                     ((A, tensor([2, 4], 0, 32)), (B, tensor([3, 2], 32, 56)))}, bytes(56)),
        AdapterFormatError,
    ),
    "a name of a megabyte": (
        safetensors({key.replace(LAYER, "unet." + "x" * 2**20): t for key, t in
                     ((A, tensor([2, 4], 0, 32)), (B, tensor([3, 2], 32, 56)))}, bytes(56)),
        AdapterFormatError,
    ),
    "a layer twice, under two spellings": (
        pair(**{f"{LAYER}.lora.down.weight": tensor([0], 56, 56)}), AdapterFormatError
    ),
    "a Tucker decomposition": (pair(**{f"{LAYER}.lora_mid.weight": tensor([0], 56, 56)}), AdapterFormatError),
    "a bias": (pair(**{f"{LAYER}.lora_B.bias": tensor([0], 56, 56)}), AdapterFormatError),
    "full weights": (pair(**{f"{LAYER}.weight": tensor([0], 56, 56)}), AdapterFormatError),
    "metadata that is a list": (pair(__metadata__=[]), AdapterFormatError),
    "metadata of numbers": (pair(__metadata__={"format": 1}), AdapterFormatError),
    "a LoRA header that is no JSON": (
        pair(__metadata__={**METADATA, "lora_adapter_metadata": "{"}), AdapterFormatError
    ),
    "a LoRA header of a million brackets": (
        pair(__metadata__={**METADATA, "lora_adapter_metadata": "[" * 1_000_000}), AdapterFormatError
    ),
    "an alpha that is text": (
        pair(__metadata__={**METADATA, "lora_adapter_metadata": json.dumps({"unet.lora_alpha": "8"})}),
        AdapterFormatError,
    ),
    "an alpha beyond all floats": (
        pair(__metadata__={**METADATA, "lora_adapter_metadata": json.dumps({"unet.lora_alpha": 10**400})}),
        AdapterFormatError,
    ),
    "a hundred dimensions": (pair(**{A: tensor([2, 4, *[1] * 98], 0, 32)}), AdapterFormatError),
    "a dimension of 2^63 beside one of zero": (
        safetensors({A: tensor([0, 2**63], 0, 0), B: tensor([3, 2], 0, 24)}, bytes(24)), AdapterFormatError
    ),
    "a name of a thousand characters": (
        pair(**{A: None, f"unet.{'x' * 1000}.lora_A.weight": tensor([2, 4], 0, 32)}), AdapterFormatError
    ),
    "a header that quotes itself": (pair(**{"x" * 5000: "y" * 5000}), AdapterFormatError),
    "an alpha pattern that is a program": (
        pair(__metadata__={**METADATA, "lora_adapter_metadata": json.dumps({"unet.alpha_pattern": {"(a+)+$": 1}})}),
        AdapterFormatError,
    ),
    "not a number": (valued(float("nan")), AdapterValueError),
    "infinity": (valued(float("inf")), AdapterValueError),
    "minus infinity": (valued(float("-inf")), AdapterValueError),
    "a huge number": (valued(1e30), AdapterValueError),
    "a number that only float64 can hold": (valued(1e300, "F64"), AdapterValueError),
    "not a number in float16": (valued(float("nan"), "F16"), AdapterValueError),
    "infinity in bfloat16": (valued(float("inf"), "BF16"), AdapterValueError),
}  # fmt: skip
