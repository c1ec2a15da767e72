"""The part of the ONNX file format that drawing needs without the `onnx` package: write one graph, drop defaults.

An ONNX file is a protobuf message: a sequence of fields, each a number, a wire type and a value. Field numbers below
are those of onnx.proto: ModelProto.graph is 7; GraphProto has node 1, name 2, initializer 5, input 11, output 12.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path

_GRAPH, _INITIALIZER, _INPUT, _OUTPUT = 7, 5, 11, 12
_TENSOR_NAME, _VALUE_NAME = 8, 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT = 1


def matmul() -> bytes:
    """The smallest graph worth running: c = a b, of float32 matrices of any size."""
    node = _text(1, "a") + _text(1, "b") + _text(2, "c") + _text(4, "MatMul")
    graph = _field(1, node) + _text(2, "one operation")
    graph += _field(_INPUT, _value("a", ("m", "k"))) + _field(_INPUT, _value("b", ("k", "n")))
    graph += _field(_OUTPUT, _value("c", ("m", "n")))
    return _number(1, 8) + _field(_GRAPH, graph) + _field(8, _number(2, 17))


def drop_defaults(source: Path, target: Path) -> None:
    """Copy a model without the initializers that are also inputs: optional inputs become plain ones.

    The weights are copied piece by piece from the mapped file and never held in memory.

    Raises:
        ValueError: `source` is no ONNX file.
    """
    with source.open("rb") as file:
        # The mapping is closed when the last view of it is gone.
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    with target.open("wb") as out:
        for number, whole, value in _fields(data):
            if number == _GRAPH:
                kept = _without_defaults(value)
                out.write(_varint(_GRAPH << 3 | _BYTES) + _varint(sum(map(len, kept))))
                out.writelines(kept)
            else:
                out.write(whole)


def _without_defaults(graph: memoryview) -> list[memoryview]:
    inputs = {_name(value, _VALUE_NAME) for number, _, value in _fields(graph) if number == _INPUT}
    return [
        whole
        for number, whole, value in _fields(graph)
        if not (number == _INITIALIZER and _name(value, _TENSOR_NAME) in inputs)
    ]


def _name(message: memoryview, number: int) -> bytes:
    return next((bytes(value) for found, _, value in _fields(message) if found == number), b"")


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Yield (number, the field with its key, its value) for each field of a message."""
    place = 0
    while place < len(data):
        start = place
        key, place = _read_varint(data, place)
        wire = key & 7
        length = 0
        if wire == _VARINT:
            begin = place
            _, place = _read_varint(data, place)
            length = place - begin
            place = begin
        elif wire == _BYTES:
            length, place = _read_varint(data, place)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} is not used in ONNX files")
        if place + length > len(data):
            raise ValueError("a field ends behind the end of the file")
        yield key >> 3, data[start : place + length], data[place : place + length]
        place += length


def _read_varint(data: memoryview, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if place >= len(data) or shift > 63:
            raise ValueError("the file ends inside a number")
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, place


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _field(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _field(field, value.encode())


def _value(name: str, shape: Sequence[str]) -> bytes:
    """ValueInfoProto of a float32 matrix with named sizes."""
    sizes = b"".join(_field(1, _text(2, size)) for size in shape)
    tensor = _number(1, _FLOAT) + _field(2, sizes)
    return _text(1, name) + _field(2, _field(1, tensor))
