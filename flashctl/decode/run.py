"""`flashctl decode`: reads, decodes, prints, and says with its exit code whether all went well.

Errors of single lines go where the reader of the output looks: into the JSON stream as objects, else to
stderr. A bad line never ends the batch; it makes the exit code 65.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashctl.core.output import Output, counted, wants_color
from flashctl.decode.config import DecodeConfig
from flashctl.decode.documents import Kind, parse_hex_text
from flashctl.decode.engine import Engine, Outcome, outcome_of
from flashctl.decode.fields import check_fields
from flashctl.decode.inputs import Source, open_source, read_pieces, split_arguments
from flashctl.decode.present import (
    FieldsPresenter,
    JsonPresenter,
    Presenter,
    complaints_about,
    unshown_problems,
)
from flashctl.decode.tx_report import Options, Report
from flashctl.errors import DataError, ExitCode, Failed, IoError, UsageError

if TYPE_CHECKING:
    from flashctl.decode.l1 import L1Pricing
    from flashctl.decode.signatures import SignatureBook
    from flashctl.op.config import ChainConfig
    from flashctl.op.forks import OpFork

__all__ = ["build_options", "kind_named", "run"]


def run(config: DecodeConfig, output: Output | None = None) -> ExitCode:
    """Decode everything the configuration names.

    Raises:
        UsageError: Contradicting or unknown settings. IoError: A file cannot be read.
    """
    sources, field = split_arguments(config.inputs, stdin_is_terminal=sys.stdin.isatty())
    fields = (*config.fields, field) if field is not None else tuple(config.fields)
    check_fields(fields)
    if fields and config.json:
        raise UsageError("--json and fields exclude each other", hint="pipe --json into jq to pick fields")
    options = build_options(config)
    presenter = _presenter(config, fields)
    output = output or Output()
    if config.execute is not None:
        return _run_execution(config, config.execute, options, sources, presenter, output)
    engine = Engine(options, kind_named(config.kind))
    if (fields or config.json) and config.blobs is None:
        outcome, size, seen = _run_batch(config, engine, presenter, fields, sources, output)
        if field is not None and size == 1 and outcome is not Outcome.FAILED:  # one line, and it is blank
            raise Failed(f"there is no {field} in it")
    else:
        session = _Session(config, engine, presenter, output)
        for source in sources:
            session.consume(source)
        outcome, seen = session.finish(), session.seen
    if not seen:
        raise DataError("nothing to decode: the input is empty")
    _tell_unused(config, options)
    if outcome is Outcome.FAILED:
        return ExitCode.DATA
    return ExitCode.FAILED if outcome is Outcome.PROBLEM and config.verify else ExitCode.OK


def _tell_unused(config: DecodeConfig, options: Options) -> None:
    """Say which `--sig` nothing in the input had; with --abi most of a contract is unused."""
    if options.book is None or config.abi:
        return
    for key, signature in options.book.unused.items():
        print(f"flashctl: --sig {signature}: nothing has 0x{key.hex()}", file=sys.stderr)


def _run_batch(
    config: DecodeConfig,
    engine: Engine,
    presenter: Presenter,
    fields: Sequence[str],
    sources: Sequence[Source],
    output: Output,
) -> tuple[Outcome, int, bool]:
    """Decode what prints line by line, in as many processes as it is worth; the worst outcome, how many
    bytes were printed, and whether there was anything."""
    from flashctl.decode.chunks import ChunkDecoder, chunks_of

    chunks = chunks_of(sources)
    decoder = ChunkDecoder(config, engine, presenter, _columns(config, fields))
    if (jobs := _jobs(config, sources)) > 1:
        from flashctl.decode.parallel import decode_in_parallel

        results = decode_in_parallel(decoder, chunks, jobs)
    else:
        results = map(decoder.decode, chunks)
    worst, size, seen = Outcome.FINE, 0, False
    for decoded in results:
        output.raw(decoded.text)
        if (book := engine.options.book) is not None:
            book.keep_unused(decoded.unused)
        size += len(decoded.text)
        seen |= decoded.seen
        for complaint in decoded.complaints:
            print(complaint, file=sys.stderr)
        worst = max(worst, decoded.worst, key=lambda one: one.value)
    return worst, size, seen


class _Session:
    """Reports for a person, who reads them one after the other."""

    def __init__(self, config: DecodeConfig, engine: Engine, presenter: Presenter, output: Output) -> None:
        self.config = config
        self.engine = engine
        self.presenter = presenter
        self.output = output
        self.worst = Outcome.FINE
        self.blobs = 0
        self.seen = False
        """Whether there was anything to decode."""

    def consume(self, source: Source) -> None:
        """Decode one source to its end."""
        try:
            with open_source(source) as stream:
                for number, piece in read_pieces(stream):
                    self._piece(number if source.text is None else None, piece)
        except (OSError, EOFError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise IoError(f"cannot read {source.path or 'stdin'}: {error}") from None

    def _piece(self, number: int | None, piece: str | bytes) -> None:
        self.seen = True
        reports = self.engine.blob(piece) if isinstance(piece, bytes) else self.engine.line(piece, number)
        for report in reports:
            self._show(report, number)
        if self.config.blobs is not None and self.worst is not Outcome.FAILED:
            raw = piece if isinstance(piece, bytes) else parse_hex_text(piece)
            self.blobs = write_blobs(raw, self.config.blobs, self.blobs)

    def _show(self, report: Report, number: int | None) -> None:
        outcome = outcome_of(report)
        if outcome.value > self.worst.value:
            self.worst = outcome
        if outcome is Outcome.FAILED and not self.config.json:
            for complaint in complaints_about(report):
                print(complaint, file=sys.stderr)
        if outcome is Outcome.PROBLEM and self.config.verify:
            for problem in unshown_problems(report, self.presenter, number):
                print(problem, file=sys.stderr)
        self._print(self.presenter.show(report))

    def _print(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.output.line(line)

    def finish(self) -> Outcome:
        """Print what was held back; the worst of everything that was decoded."""
        self._print(self.presenter.finish())
        return self.worst


def write_blobs(raw: bytes, folder: Path, first: int) -> int:
    """Write the blobs that travel with a transaction as `blob-<n>.bin`, from `first` on; the next number.

    Raises:
        IoError: The folder cannot be written.
    """
    from flashctl.decode.reading import read_transaction

    sidecar = read_transaction(raw).sidecar
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, blob in enumerate(sidecar.blobs if sidecar is not None else (), first):
            (folder / f"blob-{number}.bin").write_bytes(blob)
            first = number + 1
    except OSError as error:
        raise IoError(f"cannot write to {folder}: {error.strerror}") from None
    return first


# -- execution -------------------------------------------------------------------------------------


def _run_execution(
    config: DecodeConfig,
    witness: Path,
    options: Options,
    sources: Sequence[Source],
    presenter: Presenter,
    output: Output,
) -> ExitCode:
    """Execute one block on a witness.

    Raises:
        UsageError: More than one input, or no chain's rules to follow.
        DataError: The block or the witness cannot be read, or the witness is incomplete.
    """
    from flashctl.decode.execution import chain_of, report_execution
    from flashctl.decode.witness import read_block, read_witness

    if len(sources) != 1:
        raise UsageError("--execute takes one block", hint="one input and one witness each")
    block = read_block(_json_or_bytes(sources[0]))
    chain = _chain(config) or chain_of(block)
    if chain is None:
        raise UsageError("the block names no built-in chain", hint="give --chain NAME or --genesis FILE")
    report = report_execution(block, read_witness(_json_or_bytes(Source(path=witness))), chain, options)
    for line in (*presenter.show(report), *presenter.finish()):
        output.line(line)
    return ExitCode.FAILED if report["flashctl"].get("problems") else ExitCode.OK


def _json_or_bytes(source: Source) -> Any:
    """What one whole input holds."""
    try:
        with open_source(source) as stream:
            pieces = [piece for _, piece in read_pieces(stream)]
    except (OSError, EOFError) as error:
        raise IoError(f"cannot read {source.path or 'stdin'}: {error}") from None
    if len(pieces) != 1:
        held = f"holds {counted(len(pieces), 'document')}, expected one" if pieces else "is empty"
        raise DataError(f"{source.path or 'the input'} {held}")
    (piece,) = pieces
    if isinstance(piece, bytes):
        return piece
    if piece[:1] not in ("{", '"'):
        return parse_hex_text(piece)
    import orjson

    try:
        value = orjson.loads(piece)
    except orjson.JSONDecodeError as error:
        raise DataError(f"{source.path or 'the input'} is not JSON: {error}") from None
    if isinstance(value, dict) and isinstance(value.get("result"), str):  # debug_getRawBlock
        value = value["result"]
    return parse_hex_text(value) if isinstance(value, str) else value


def _chain(config: DecodeConfig) -> ChainConfig | None:
    """The chain that was asked for."""
    from flashctl.chain.genesis import genesis_config, read_genesis
    from flashctl.op.config import ChainConfig
    from flashctl.op.registry import chain_by_id, chain_by_name

    if config.chain is not None and config.genesis is not None:
        raise UsageError("--chain and --genesis both name the rules", hint="give one of them")
    if config.genesis is not None:
        rules = read_genesis(config.genesis)
        return ChainConfig.from_rollup(rules) if "l2_chain_id" in rules else genesis_config(rules)
    if config.chain is not None:
        return chain_by_name(config.chain)
    return None if config.chain_id is None else chain_by_id(config.chain_id)


# -- settings -------------------------------------------------------------------------------------


def kind_named(name: str | None) -> Kind | None:
    if name is None:
        return None
    try:
        return Kind(name)
    except ValueError:
        raise UsageError(f"--as {name!r}: not a kind", hint=f"kinds: {', '.join(Kind)}") from None


def build_options(config: DecodeConfig) -> Options:
    """What the reports may draw on.

    Raises:
        UsageError: A signature, an ABI or a fork that cannot be understood.
    """
    return Options(
        book=_book(config),
        senders=config.senders,
        base_fee=config.base_fee,
        chain_id=config.chain_id,
        l1=_pricing(config),
    )


def _book(config: DecodeConfig) -> SignatureBook | None:
    if not config.signatures and not config.abi:
        return None
    from flashctl.decode.abi import entries_from_json, parse_signature
    from flashctl.decode.signatures import SignatureBook

    try:
        entries = [parse_signature(text) for text in config.signatures]
    except DataError as error:
        raise UsageError(f"--sig: {error}") from None
    for path in config.abi:
        entries += entries_from_json(_read_json(path))
    return SignatureBook(entries)


def _read_json(path: Path) -> Any:
    import orjson

    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise IoError(f"cannot read {path}: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise UsageError(f"--abi {path}: not JSON: {error}") from None


def _pricing(config: DecodeConfig) -> L1Pricing | None:
    if config.l1_base_fee is None:
        return None
    from flashctl.decode.l1 import L1Pricing
    from flashctl.op.fees import L1FeeParameters

    fork = _fork(config.fork)
    if not fork.prices_blobs:
        raise UsageError("--fork must be ecotone or later for an L1 fee from flags")
    parameters = L1FeeParameters(
        config.l1_base_fee,
        config.blob_base_fee or 0,
        config.base_fee_scalar or 0,
        config.blob_base_fee_scalar or 0,
    )
    return L1Pricing(fork, parameters)


def _fork(name: str | None) -> OpFork:
    from flashctl.op.forks import OpFork

    try:
        return OpFork[(name or "jovian").upper()]
    except KeyError:
        known = ", ".join(fork.label for fork in OpFork)
        raise UsageError(f"--fork {name!r}: not a fork", hint=f"forks: {known}") from None


def _presenter(config: DecodeConfig, fields: Sequence[str]) -> Presenter:
    if fields:
        return FieldsPresenter(fields, config.decimal)
    if config.json:
        whole = config.kind is not None or config.execute is not None
        return JsonPresenter(whole=whole, in_decimal=config.decimal)
    import shutil

    from flashctl.decode.render import Style, TextPresenter

    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else None
    return TextPresenter(Style(width, wants_color(sys.stdout, config.color)), full=config.full)


def _columns(config: DecodeConfig, fields: Sequence[str]) -> Callable[[], Callable[[bytes], str] | None]:
    """What makes columns without a report, where that prints the same."""
    if not fields or config.kind not in (None, "tx") or config.decimal or config.verify:
        return lambda: None

    @cache
    def columns() -> Callable[[bytes], str] | None:
        from flashctl.decode.columns import fast_columns

        return fast_columns(fields, senders=config.senders)

    return columns


_PARALLEL_FROM_BYTES = 2 * 1024 * 1024
"""Input size from which worker processes pay for their start (10 ms each)."""


def _jobs(config: DecodeConfig, sources: Sequence[Source]) -> int:
    """How many processes to decode with: one for what is small or live."""
    if config.jobs is not None:
        return config.jobs
    size = sum(_size(source) for source in sources)
    return min(os.cpu_count() or 1, 8) if size >= _PARALLEL_FROM_BYTES else 1


def _size(source: Source) -> int:
    """Bytes of a regular file, on stdin too; 0 for what arrives as it is produced."""
    if source.text is not None:
        return 0
    try:
        status = os.stat(source.path) if source.path is not None else os.fstat(sys.stdin.fileno())
    except (OSError, ValueError):
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0
