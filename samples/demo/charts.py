"""Two small SVG charts for the report: points on a plane, and lines over rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, MARGIN = 460, 300, 38
LINE_HEIGHT = 12


@dataclass(frozen=True)
class Point:
    """A device on the plane: fill colour of its hidden group, ring colour of its cluster."""

    label: str
    x: float
    y: float
    fill: str
    ring: str


@dataclass(frozen=True)
class Line:
    """A curve: (x, y) pairs in data units."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: str
    dashed: bool = False


def _scale(values: Sequence[float], low: float, high: float) -> Mapping[float, float]:
    first, last = min(values), max(values)
    span = (last - first) or 1.0
    return {value: low + (value - first) / span * (high - low) for value in values}


def scatter(points: Sequence[Point]) -> str:
    """Points with a ring for the cluster; names that would overlap are stacked."""
    xs = _scale([p.x for p in points], MARGIN, WIDTH - 3.4 * MARGIN)
    ys = _scale([p.y for p in points], HEIGHT - MARGIN, MARGIN)
    taken: list[tuple[float, float]] = []
    shapes = []
    for p in sorted(points, key=lambda point: (ys[point.y], point.label)):
        x, y = xs[p.x] + 14, ys[p.y] + 4
        while any(abs(x - other_x) < 80 and abs(y - other_y) <= LINE_HEIGHT for other_x, other_y in taken):
            y -= LINE_HEIGHT + 1
        taken.append((x, y))
        shapes.append(
            f'<circle cx="{xs[p.x]:.1f}" cy="{ys[p.y]:.1f}" r="8" fill="{p.fill}" stroke="{p.ring}" stroke-width="4"/>'
            f'<text x="{x:.1f}" y="{y:.1f}">{escape(p.label)}</text>'
        )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="devices on a plane">{"".join(shapes)}</svg>'


def lines(curves: Sequence[Line], x_label: str, y_label: str) -> str:
    """Curves on common axes, with three ticks on the vertical one and each name at its curve's end."""
    all_x = sorted({x for curve in curves for x, _ in curve.points})
    all_y = [y for curve in curves for _, y in curve.points]
    low, high = min(all_y), max(all_y)
    ticks = [low, (low + high) / 2, high]
    xs, ys = _scale(all_x, MARGIN + 14, WIDTH - 2.4 * MARGIN), _scale(all_y + ticks, HEIGHT - MARGIN, 24)
    parts = [
        f'<line x1="{MARGIN + 14}" x2="{WIDTH - 2.4 * MARGIN}" y1="{ys[t]:.1f}" y2="{ys[t]:.1f}" stroke="#e4dfd7"/>'
        f'<text x="{MARGIN + 8}" y="{ys[t] + 4:.1f}" text-anchor="end">{t:.2f}</text>'
        for t in ticks
    ]
    parts += [f'<text x="{xs[x]:.1f}" y="{HEIGHT - 16}" text-anchor="middle">{x:g}</text>' for x in all_x]
    for curve in curves:
        path = " ".join(f"{xs[x]:.1f},{ys[y]:.1f}" for x, y in curve.points)
        dash = ' stroke-dasharray="5 5"' if curve.dashed else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{curve.colour}" stroke-width="2.5"{dash}/>')
    at = -float(LINE_HEIGHT)
    for curve in sorted((c for c in curves if not c.dashed), key=lambda c: ys[c.points[-1][1]]):
        end_x, end_y = curve.points[-1]
        at = max(at + LINE_HEIGHT, ys[end_y] + 4)
        parts.append(f'<text x="{xs[end_x] + 6:.1f}" y="{at:.1f}">{escape(curve.label)}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 2}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text x="4" y="14">{escape(y_label)}</text>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)}">{"".join(parts)}</svg>'
