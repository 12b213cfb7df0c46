"""A picture of a run: intervals between arrivals and sizes of flashblocks over time (`--plot out.png`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from flashctl.errors import IoError, UsageError
from flashctl.watch.events import WatchEvent

__all__ = ["Plotter"]

MAX_POINTS: Final = 200_000
"""Points kept; a day at 200 ms is 432,000, of which a picture shows nothing more than of the last half."""

_FORMATS: Final = (".png", ".svg", ".pdf")


class Plotter:
    """Collects points and draws them at the end.

    Raises:
        UsageError: matplotlib is not installed, or the file has an ending it cannot draw.
    """

    def __init__(self, path: Path, interval_ms: float) -> None:
        if path.suffix not in _FORMATS:
            raise UsageError(f"--plot {path}: unknown format", hint=f"end it in {', '.join(_FORMATS)}")
        try:
            import matplotlib
        except ImportError:
            raise UsageError("--plot needs matplotlib", hint="pip install 'flashctl[plot]'") from None
        matplotlib.use("Agg")
        self._path = path
        self._interval_ms = interval_ms
        self._points: list[tuple[float, float, int, bool]] = []
        self._first_ns: int | None = None

    def see(self, event: WatchEvent) -> None:
        """Keep the point of a flashblock."""
        if event.row is None or event.arrival is None:
            return
        if self._first_ns is None:
            self._first_ns = event.arrival.monotonic_ns
        seconds = (event.arrival.monotonic_ns - self._first_ns) / 1e9
        interval = float("nan") if event.row.elapsed_ns is None else event.row.elapsed_ns / 1e6
        self._points.append((seconds, interval, event.arrival.wire_bytes, bool(event.row.marks)))
        if len(self._points) > MAX_POINTS:
            del self._points[: MAX_POINTS // 2]

    def draw(self) -> None:
        """Write the picture.

        Raises:
            IoError: The file cannot be written.
        """
        from matplotlib import pyplot

        figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(10, 6))
        self._scatter(above, 1, "interval, ms")
        above.axhline(self._interval_ms, color="grey", linewidth=0.8, linestyle="--")
        self._scatter(below, 2, "bytes on the wire")
        below.set_xlabel("seconds")
        figure.tight_layout()
        try:
            figure.savefig(self._path)
        except OSError as error:
            raise IoError(f"cannot write {self._path}: {error.strerror}") from None
        finally:
            pyplot.close(figure)

    def _scatter(self, axes: Any, column: int, label: str) -> None:
        regular = [point for point in self._points if not point[3]]
        marked = [point for point in self._points if point[3]]
        axes.plot([p[0] for p in regular], [p[column] for p in regular], ".", markersize=3)
        if marked:
            axes.plot(
                [p[0] for p in marked], [p[column] for p in marked], "rx", label="gap, replaced or truncated"
            )
            axes.legend(loc="upper right")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
