"""Reports to lines of output, in the form that was asked for.

    json     one object a line; transactions of a container one by one, or the container whole with `--as`
    fields   the named fields, tab-separated, one line per transaction
    text     a listing of the only report, a table when there are more

The text form decides late: the first report is held back until a second one, or the end, tells which it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from flashctl.decode.facts import Report
from flashctl.decode.fields import decimal, pick, text_of
from flashctl.decode.render import Style, render_listing, render_table

__all__ = ["FieldsPresenter", "JsonPresenter", "Presenter", "TextPresenter", "transactions_in"]


class Presenter(Protocol):
    """Turns reports into lines without their line ends."""

    def show(self, report: Report) -> Iterator[str]:
        """The lines that are due after this report."""
        ...

    def finish(self) -> Iterator[str]:
        """The lines that were held back."""
        ...


def transactions_in(report: Report) -> list[Report]:
    """The reports of a container's transactions; of anything else, itself."""
    members = report.get("transactions")
    if isinstance(members, list) and all(isinstance(member, dict) for member in members):
        return members
    return [report]


@dataclass(slots=True)
class JsonPresenter:
    """NDJSON."""

    whole: bool = False
    """Print containers as one object each."""
    in_decimal: bool = False

    def show(self, report: Report) -> Iterator[str]:
        import orjson

        for member in [report] if self.whole else transactions_in(report):
            yield orjson.dumps(decimal(member) if self.in_decimal else member).decode()

    def finish(self) -> Iterator[str]:
        return iter(())


@dataclass(slots=True)
class FieldsPresenter:
    """Tab-separated values; what could not be decoded leaves no line."""

    names: Sequence[str]
    in_decimal: bool = False

    def show(self, report: Report) -> Iterator[str]:
        members = [report] if self._of_container(report) else transactions_in(report)
        for member in members:
            if "error" not in member:
                shown = decimal(member) if self.in_decimal else member
                yield "\t".join(text_of(pick(shown, name)) for name in self.names)

    def _of_container(self, report: Report) -> bool:
        """Whether every field is one of the container itself: `payloadId index gasUsed` of a flashblock."""
        return "transactions" in report and all(
            name in report or name == "transactions" for name in self.names
        )

    def finish(self) -> Iterator[str]:
        return iter(())


class TextPresenter:
    """Listings and tables."""

    def __init__(self, style: Style, *, full: bool = False) -> None:
        self._style = style
        self._full = full
        self._held: Report | None = None
        self._shown = 0

    def show(self, report: Report) -> Iterator[str]:
        if "error" in report:
            return
        if self._shown == 0 and self._held is None:
            self._held = report
            return
        if self._held is not None:
            held, self._held = self._held, None
            yield from self._one_of_many(held)
        yield from self._one_of_many(report)

    def finish(self) -> Iterator[str]:
        if self._held is not None:
            yield from render_listing(self._held, self._style, full=self._full)

    def _one_of_many(self, report: Mapping[str, Any]) -> Iterator[str]:
        number = self._shown
        self._shown += 1
        if self._full or "transactions" in report or "hash" not in report:
            if number:
                yield ""
            yield from render_listing(report, self._style, full=self._full)
        else:
            yield from render_table([report], self._style, header=number == 0, first=number)
