"""Inputs that are nearly valid: bytes changed blindly, or one value of what they encode changed and encoded again."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

import msgspec

_ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**63 - 1, -(2**63), 2**64 - 1,
    0.0, -0.0, 1e-45, 1e30, 1e308, float("inf"), float("nan"), "", "a", "..", "/", "\0", "é" * 40, "x" * 70,
    b"", b"\0", bytes(32), bytes(64), [], [0], {}, {"a": 0}, {"__metadata__": {}},
)  # fmt: skip
_NUMBERS = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", struct.pack("<I", 2**31), struct.pack(">Q", 2**63))


def mutate(data: bytes, rng: random.Random, bytewise: Callable[[bytes], bytes] | None = None) -> bytes:
    """Something like `data`. `bytewise`: how to change bytes blindly, if not by this module."""
    if rng.random() < 0.5:
        for change in rng.sample(_FORMATS, len(_FORMATS)):
            changed = change(data, rng)
            if changed is not None:
                return changed
    return bytewise(data) if bytewise else blindly(data, rng)


def blindly(data: bytes, rng: random.Random) -> bytes:
    """A few bytes flipped, overwritten, left out, doubled or moved."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(content) + 1)
        length = rng.choice((1, 1, 2, 4, 16, 256))
        match rng.randrange(6):
            case 0 if at < len(content):
                content[at] ^= 1 << rng.randrange(8)
            case 1:
                number = rng.choice(_NUMBERS)
                content[at : at + len(number)] = number
            case 2:
                del content[at : at + length]
            case 3:
                content[at:at] = content[at : at + length] * rng.choice((1, 2, 50))
            case 4:
                content[at:at] = rng.randbytes(length)
            case _:
                del content[at:]
    return bytes(content)


def _msgpack(data: bytes, rng: random.Random) -> bytes | None:
    try:
        value = msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return _encoded(lambda: msgspec.msgpack.encode(_changed(value, rng)))


def _json(data: bytes, rng: random.Random) -> bytes | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return _encoded(lambda: json.dumps(_changed(value, rng), default=repr).encode())


def _safetensors(data: bytes, rng: random.Random) -> bytes | None:
    """The header changed, and its length with it."""
    length = int.from_bytes(data[:8], "little")
    if length > len(data):
        return None
    header = _json(data[8 : 8 + length], rng)
    return None if header is None else struct.pack("<Q", len(header)) + header + data[8 + length :]


def _part(data: bytes, rng: random.Random) -> bytes | None:
    """The same behind a first byte."""
    changed = _safetensors(data[1:], rng)
    return None if changed is None else data[:1] + changed


_FORMATS: tuple[Callable[[bytes, random.Random], bytes | None], ...] = (_msgpack, _json, _safetensors, _part)


def _encoded(encode: Callable[[], bytes]) -> bytes | None:
    try:
        return encode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def _changed(value: Any, rng: random.Random) -> Any:
    """One value in it replaced, left out, doubled or put into another."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        rest = {other: item for other, item in value.items() if other != key}
        match rng.randrange(5):
            case 0:
                return rest
            case 1:
                return {**rest, rng.choice(("a", f"{key}x", "", *value)): value[key]}
            case _:
                return {**rest, key: _changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        match rng.randrange(4):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value[:at] + value[at : at + 1] * rng.choice((2, 20, 300)) + value[at + 1 :]
            case _:
                return [*value[:at], _changed(value[at], rng), *value[at + 1 :]]
    if isinstance(value, bytes | str) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return value[:at] + value[at + 1 :] if rng.random() < 0.5 else value[:at] + value[at:] * rng.choice((2, 100))
    if isinstance(value, int | float) and rng.random() < 0.5:
        return rng.choice((-value, value + 1, value - 1, value * 2, value / 2, str(value)))
    return rng.choice(_ODD) if rng.random() < 0.8 else [value, {"a": value}]
