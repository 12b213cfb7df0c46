"""Reports to lines of output, in the form that was asked for.

json     one object a line; transactions of a container one by one, or the container whole with `--as`
fields   the named fields, tab-separated, one line per transaction
text     a listing of the only report, a table when there are more: `render.TextPresenter`
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from flashctl.core.output import escape
from flashctl.decode.fields import decimal, pick, text_of
from flashctl.decode.tx_report import Report

__all__ = [
    "FieldsPresenter",
    "JsonPresenter",
    "Presenter",
    "complaints_about",
    "transactions_in",
    "unshown_problems",
]


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


class JsonPresenter(NamedTuple):
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


class FieldsPresenter(NamedTuple):
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


def unshown_problems(report: Report, presenter: Presenter, line: int | None = None) -> Iterator[str]:
    """A line for stderr for everything that `--verify` found and the presenter leaves out: a container's
    own problems where its transactions are printed, all of them where fields are."""
    match presenter:
        case JsonPresenter(whole=False):
            parts = [report] if transactions_in(report) != [report] else []
        case FieldsPresenter():
            parts = [report, *(one for one in transactions_in(report) if one is not report)]
        case _:
            return
    where = "" if line is None else f"line {line}: "
    for part in parts:
        for problem in (part.get("flashctl") or {}).get("problems", ()):
            yield f"flashctl: problem: {where}{escape(str(problem))}"


def complaints_about(report: Report) -> Iterator[str]:
    """A line for stderr for everything in a report that could not be decoded."""
    for member in (report, *(report.get("transactions") or ())):
        if not isinstance(member, dict) or "error" not in member:
            continue
        details = member["error"]
        if "line" in details:
            where = f"line {details['line']}: "
        elif "position" in details:
            where = f"transaction {details['position']}: "
        else:
            where = ""
        yield f"flashctl: error: {where}{escape(str(details['message']))}"
