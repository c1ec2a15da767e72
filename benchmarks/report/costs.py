"""Small costs as tables in Markdown: computing a base id, idle devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.report.markdown import table

_STORED = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def ids(result: Mapping[str, Any]) -> str:
    """Seconds of an id by the way of storing the weights, and in units of reading and hashing them."""
    return table(
        ("weights", "MB", "read", "read and hashed", "id", "id in units of read and hashed"),
        [
            [
                _STORED[row["dtype"]],
                f"{row['mb']:.0f}",
                f"{row['read_s']:.2f} s",
                f"{row['read_and_hash_s']:.2f} s",
                f"{row['id_s']:.2f} s",
                f"{row['ratio']:.2f}",
            ]
            for row in result["rows"]
        ],
    )


def idle(result: Mapping[str, Any]) -> str:
    """Messages of idle devices, and the share of a core that they cost their coordinator."""
    return table(
        ("devices", "say", "messages a second", "answered", "bytes a device and day", "share of a core"),
        [
            [
                f"{row['devices']:,}",
                f"`{row['says']}`",
                f"{row['messages_a_second']:.2f}",
                f"{row['answered']:.0%}",
                f"{row['bytes_a_device_and_day']:,.0f}",
                f"{row['core']:.2%}",
            ]
            for row in result["rows"]
        ],
    )
