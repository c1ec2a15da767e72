"""The study of learning as a table in Markdown: a row for each lesson or way of drawing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.report.markdown import or_empty, table

_HEAD = (
    "row", "pictures", "both", "of real pictures", "less the usual row's", "style", "subject", "held-out loss",
    "learning", "drawn",
)  # fmt: skip


def lessons(result: Mapping[str, Any]) -> str:
    """Shares of pictures by row, the held-out loss, and the seconds of learning on one thread."""
    return table(
        _HEAD,
        [
            [
                row["row"],
                f"{row['pictures']}",
                f"{row['both']:.2f}",
                f"{row['share']:.0%}",
                f"{row['gain']:+.3f}" + or_empty(row["gain_se"], " ± {:.3f}"),
                f"{row['style']:.2f}",
                f"{row['subject']:.2f}",
                f"{row['loss']:.4f}",
                f"{row['learning_s']:.0f} s",
                f"{row['drawn']}",
            ]
            for row in result["rows"]
            if row.get("part") != "run"
        ],
    )
