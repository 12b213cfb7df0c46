"""From lines of input to reports: the part of `flashctl decode` between reading and printing.

A line is hex, a quoted hex string, or one JSON value; a line that cannot be decoded becomes an error report
and the next line goes on. Between lines the engine remembers the flashblocks of the payloads seen last, and
blocks and receipts, so that each is priced by and held against those before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from flashctl.decode.documents import (
    Document,
    Kind,
    UnknownDocument,
    classify_bytes,
    documents_of,
    parse_hex_text,
)
from flashctl.decode.tx_report import Options, Report, error_report, report_transaction
from flashctl.errors import DataError

if TYPE_CHECKING:
    from flashctl.decode.block_receipts import BlockMemory
    from flashctl.decode.containers import PriceMemory

__all__ = ["Engine", "Outcome", "outcome_of"]

MAX_LINE_BYTES = 256 * 1024 * 1024
"""A line longer than this is refused; a block of 100 MB of transactions in hex fits."""


class Outcome(Enum):
    """What a report means for the exit code."""

    FINE = 0
    PROBLEM = 1
    """Decoded, and something about it is wrong: `--verify` fails."""
    FAILED = 2
    """Not decoded, or a part of it was not."""


def outcome_of(report: Mapping[str, Any]) -> Outcome:
    """The worst outcome in a report and in the transactions it holds."""
    if "error" in report:
        return Outcome.FAILED
    worst = Outcome.PROBLEM if (report.get("flashctl") or {}).get("problems") else Outcome.FINE
    for member in report.get("transactions") or ():
        if isinstance(member, dict):
            worst = max(worst, outcome_of(member), key=lambda outcome: outcome.value)
    return worst


class Engine:
    """Decodes documents one after the other.

    Args:
        forced: `--as`: what bytes are, whatever they look like.
    """

    def __init__(self, options: Options, forced: Kind | None = None) -> None:
        self.options = options
        self.forced = forced
        self._memory: PriceMemory | None = None
        self._blocks: BlockMemory | None = None

    @property
    def remembers(self) -> bool:
        """Whether anything decoded so far matters to what comes later."""
        return self._memory is not None or self._blocks is not None

    def line(self, text: str, number: int | None = None) -> Iterator[Report]:
        """The reports of one line of text; `number` names it in errors."""
        where = {} if number is None else {"line": number}
        try:
            for document in self._documents(text):
                yield from self.document(document, where)
        except DataError as error:
            yield error_report(error, **where)

    def document(self, document: Document, where: Mapping[str, Any] | None = None) -> Iterator[Report]:
        """The report of one document, or an error report at its place."""
        try:
            yield self._report(document)
        except DataError as error:
            yield error_report(error, **(where or {}))
        except RecursionError:
            yield error_report(UnknownDocument("lists are nested too deeply to decode"), **(where or {}))

    def blob(self, raw: bytes) -> Iterator[Report]:
        """The report of raw bytes, such as a binary file."""
        try:
            document = Document(self.forced or classify_bytes(raw), raw)
        except DataError as error:
            yield error_report(error)
            return
        yield from self.document(document)

    def _documents(self, text: str) -> Iterator[Document]:
        if text[:1] not in ("{", "[", '"'):
            raw = parse_hex_text(text)
            yield Document(self.forced or classify_bytes(raw), raw)
            return
        import orjson

        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise UnknownDocument(f"not JSON: {error}") from None
        for document in documents_of(value):
            if self.forced is not None and isinstance(document.value, bytes):
                yield Document(self.forced, document.value)
            else:
                yield document

    def _report(self, document: Document) -> Report:
        value = document.value
        if not isinstance(value, bytes):
            return self._report_object(document.kind, value)
        if document.kind is Kind.TX:
            return report_transaction(value, self.options)
        return self._report_bytes(document.kind, value)

    def _block_memory(self) -> BlockMemory:
        from flashctl.decode.block_receipts import BlockMemory

        if self._blocks is None:
            self._blocks = BlockMemory()
        return self._blocks

    def _report_object(self, kind: Kind, value: Mapping[str, Any]) -> Report:
        from flashctl.decode import containers, objects
        from flashctl.ethrpc.transaction_objects import raw_from_object

        match kind:
            case Kind.FLASHBLOCK:
                if self._memory is None:
                    self._memory = containers.PriceMemory()
                return containers.report_flashblock(value, self.options, self._memory)
            case Kind.BLOCK:
                return containers.report_block_object(value, self.options, self._block_memory())
            case Kind.PAYLOAD:
                return containers.report_payload(value, self.options, self._block_memory())
            case Kind.RECEIPT:
                return objects.report_receipt_object(value, self.options.book, self._block_memory())
            case Kind.LOG:
                return objects.report_log(value, self.options.book)
            case Kind.HEADER:
                return containers.report_header_object(value)
        from flashctl.decode.dialects import as_json_rpc

        value = as_json_rpc(value)
        report = report_transaction(raw_from_object(value), self.options)
        return containers.checked(report, value)

    def _report_bytes(self, kind: Kind, raw: bytes) -> Report:
        from flashctl.decode import containers, objects

        match kind:
            case Kind.BLOCK:
                return containers.report_block(raw, self.options, self._block_memory())
            case Kind.HEADER:
                from flashctl.eth.blocks import decode_header

                return containers.report_header(decode_header(raw))
            case Kind.RECEIPT:
                return containers.report_receipt(raw, self.options, self._block_memory())
            case Kind.CALL | Kind.ERROR:
                return objects.report_call(raw, kind.value, self.options.book)
            case Kind.LOG:
                return objects.report_log_bytes(raw, self.options.book)
            case Kind.RLP:
                from flashctl.decode.rlp_item import report_item

                return report_item(raw, self.options)
        raise UnknownDocument(f"a {kind.value} is JSON, these are bytes")
