"""Numbers as people read them: three digits, columns in line. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.harness.figures import Figure


def number(value: float) -> str:
    """Three significant digits at most, without an exponent: 12,300 · 123 · 12.3 · 0.012."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def spread(samples: Sequence[float]) -> str:
    """Min-max."""
    return f"{number(min(samples))}-{number(max(samples))}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns in line: the first to the left, numbers to the right."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rule = ["-" * width for width in widths]
    return "\n".join(_line(line, widths) for line in (lines[0], rule, *lines[1:]))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, rest = cells[0].ljust(widths[0]), [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return "  ".join([first, *rest]).rstrip()


def figures(shown: Sequence[Figure]) -> str:
    """One line a figure: median, min-max, and the goal with what came of it."""
    rows = [
        [
            figure.name,
            number(figure.median),
            figure.unit,
            spread(figure.samples),
            str(len(figure.samples)),
            str(figure.goal or ""),
            "" if figure.goal is None else ("met" if figure.goal.met_by(figure.median) else "MISSED"),
        ]
        for figure in shown
    ]
    return table(["figure", "median", "unit", "min-max", "n", "goal", ""], rows)
