"""`flashctl watch`: tail, record, replay and measure a flashblocks stream."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple

import typer

from flashctl.cli.options import Common, command, load_settings, new_app
from flashctl.cli.values import completing, one_of
from flashctl.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from flashctl.watch.config import FilterConfig

__all__ = ["app"]

app = new_app()

_EXAMPLES = """\
flashctl watch unichain                                 the live view of a profile
flashctl watch ws://127.0.0.1:1111 --json | jq -c 'select(.event=="gap")'
flashctl watch unichain -n 50 --stats -q                a summary like ping's
flashctl watch unichain --tx HASH --timeout 10s && echo preconfirmed
flashctl watch unichain --record cap.ndjson.zst --duration 10m
flashctl watch --replay cap.ndjson.zst --serve 127.0.0.1:1111 --speed 1
flashctl watch --check unichain                         what is wrong with an endpoint
"""


Source = Literal["auto", "raw", "rpc"]
Form = Literal["auto", "table", "line", "json", "raw", "stats"]
Color = Literal["auto", "always", "never"]
Stage = Literal["preconfirmed", "sealed"]

_ADDRESS: Final = re.compile(
    r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}(/.*)?|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*/.*"
)
"""A host with a port, or with a path: a URL without its scheme."""


def _profiles() -> list[str]:
    from flashctl.core.settings.profile import profile_names

    return profile_names()


def _load_target(context: typer.Context, value: str | None) -> str | None:
    """A profile named by the argument holds settings as one named by -P does."""
    if value is None or context.resilient_parsing:
        return value
    if "://" in value:
        context.default_map = {**(context.default_map or {}), "url": value}  # for --save-profile
    elif _ADDRESS.fullmatch(value) and not Path(value).is_file():
        raise UsageError(f"{value!r} is neither a URL nor a profile", hint=f"write ws://{value}")
    else:
        load_settings(context, "watch", value)
    return value


def _fields() -> list[str]:
    from flashctl.watch.line_output import FIELDS

    return list(FIELDS)


def _events() -> list[str]:
    from flashctl.watch.events import EVENT_NAMES

    return [*EVENT_NAMES, "reorg", "any"]


def _conditions() -> list[str]:
    from flashctl.watch.events import EVENT_NAMES

    return ["tx:", "block:>=", "payload:", *(f"event:{name}" for name in EVENT_NAMES)]


def _types() -> list[str]:
    from flashctl.watch.filters import TYPE_NAMES

    return list(TYPE_NAMES)


class StreamFlags(NamedTuple):
    """The stream, and how to hold on to it"""

    url: Annotated[
        str | None, typer.Option(metavar="URL", help="ws:// or wss://, where the argument is not given.")
    ] = None
    source: Annotated[
        Source,
        typer.Option(help="raw: a flashblocks stream; rpc: a node's eth_subscribe; auto: detected."),
    ] = "auto"
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="Send this HTTP header."),
    ] = None
    api_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Send its content as Authorization: Bearer.")
    ] = None
    reconnect: Annotated[bool, typer.Option(help="Connect again after a disconnect.")] = True
    wait: Annotated[bool, typer.Option("--wait", help="Keep trying an endpoint that has never answered.")] = (
        False
    )
    ping_interval: Annotated[
        str, typer.Option(metavar="DURATION", help="Between WebSocket pings; 0: none.")
    ] = "5s"
    pong_timeout: Annotated[
        str,
        typer.Option(
            metavar="DURATION", help="For the answer to a ping, which queues behind unread data; 0: any time."
        ),
    ] = "20s"
    silence: Annotated[
        str,
        typer.Option(metavar="DURATION", help="Without a message, the connection counts as dead; 0: never."),
    ] = "15s"


class OutputFlags(NamedTuple):
    """What is printed"""

    output: Annotated[
        Form,
        typer.Option("--output", "-o", help="auto: table on a terminal, else line."),
    ] = "auto"
    json: Annotated[
        bool, typer.Option("--json", help="Short for -o json: every event, lossless, one object a line.")
    ] = False
    raw: Annotated[
        bool, typer.Option("--raw", help="Short for -o raw: messages as received, decompressed.")
    ] = False
    fields: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B,...",
            autocompletion=completing(_fields, listed=True),
            help="Print these of each flashblock, tab-separated: block, index, ntx, gas, ...",
        ),
    ] = None
    format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="TEMPLATE", help=r"Print each flashblock so: '{block} {index} {ntx}\n'."
        ),
    ] = None
    stats: Annotated[bool, typer.Option("--stats", help="Print a summary at the end, as ping does.")] = False
    stats_every: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Print the summary so often.")
    ] = None
    interval: Annotated[
        str,
        typer.Option(metavar="DURATION", help="The builder's interval, against which jitter is measured."),
    ] = "200ms"
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw arrivals and sizes: .png, .svg or .pdf.")
    ] = None
    color: Annotated[Color, typer.Option(help="auto: on a terminal.")] = "auto"


class EndFlags(NamedTuple):
    """When it ends, and with which exit code"""

    count: Annotated[
        int | None, typer.Option("--count", "-n", metavar="N", min=1, help="Stop after N flashblocks.")
    ] = None  # type: ignore[assignment]  # hides tuple.count
    blocks: Annotated[int | None, typer.Option(metavar="N", min=1, help="Stop after N payloads.")] = None
    duration: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Stop after this time, exit 0.")
    ] = None
    until: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            autocompletion=completing(_conditions),
            help="Stop at tx:HASH, block:>=N, payload:ID or event:NAME, whichever is first.",
        ),
    ] = None
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Give up after this time, exit 124.")
    ] = None
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EVENT",
            autocompletion=completing(_events),
            help="Exit 1 at the end if this happened: gap, reorg, any, ....",
        ),
    ] = None
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 65 at the first message that is no flashblock.")
    ] = False


class FilterFlags(NamedTuple):
    """Which flashblocks are shown: those with a transaction that meets all of these"""

    address: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Sender, recipient or emitter of a log."),
    ] = None
    sender: Annotated[list[str] | None, typer.Option("--from", metavar="ADDRESS", help="Sender.")] = None
    to: Annotated[list[str] | None, typer.Option("--to", metavar="ADDRESS", help="Recipient.")] = None
    selector: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SELECTOR",
            help="Function called: 0xa9059cbb or 'transfer(address,uint256)'.",
        ),
    ] = None
    topic: Annotated[
        list[str] | None,
        typer.Option(metavar="TOPIC", help="Topic of a log, where the stream has receipts."),
    ] = None
    type: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            autocompletion=completing(_types),
            help="legacy, eip2930, eip1559, eip4844, eip7702, deposit, or a number.",
        ),
    ] = None
    min_value: Annotated[int | None, typer.Option(metavar="WEI", min=0, help="Value at least this.")] = None
    no_deposits: Annotated[bool, typer.Option("--no-deposits", help="Leave deposits out.")] = False
    index: Annotated[
        str | None, typer.Option(metavar="N..M", help="Index of the flashblock: 3, 1..3, 2.. or ..4.")
    ] = None  # type: ignore[assignment]  # hides tuple.index


class RecordingFlags(NamedTuple):
    """Recordings"""

    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep what arrives in a new file; .zst, .gz, .br compress; -: stdout."
        ),
    ] = None
    record_raw: Annotated[
        bool, typer.Option("--record-raw", help="Keep messages bit by bit, as compressed on the wire.")
    ] = False
    replay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Follow a recording instead of a stream; -: stdin.")
    ] = None
    speed: Annotated[
        str | None,
        typer.Option(
            metavar="X",
            autocompletion=completing(("max", "1", "10")),
            help="Of a replay: times real time, or max; default: 1 for the table and --serve, else max.",
        ),
    ] = None
    serve: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Publish what arrives as a stream, byte for byte.")
    ] = None


class TransactionFlags(NamedTuple):
    """One transaction, on its way to a block"""

    tx: Annotated[
        str | None, typer.Option("--tx", metavar="HASH", help="Wait for this transaction, exit 0 or 1.")
    ] = None
    send: Annotated[
        str | None, typer.Option(metavar="RAW", help="Send a signed transaction, 0x..., and wait for it.")
    ] = None
    stage: Annotated[
        Stage | None, typer.Option(help="What to wait for; default: sealed where a node is known.")
    ] = None
    submitted_at: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="When it was sent, in seconds since the epoch; for its latency."
        ),
    ] = None


class ComparisonFlags(NamedTuple):
    """Against a node, another endpoint, or what a stream should be"""

    rpc: Annotated[
        str | None,
        typer.Option(
            "--rpc", metavar="URL", help="The node for --tx, --send and --check; a profile names one."
        ),
    ] = None
    confirm: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            autocompletion=completing(("auto",)),
            help="Compare each payload with this node's sealed block; auto: the profile's node.",
        ),
    ] = None
    compare: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Follow another stream too: which is first, which loses."),
    ] = None
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Test connection, encoding, order, clock and node for some seconds; a fix per fault.",
        ),
    ] = False


class ReactionFlags(NamedTuple):
    """What to do when something happens"""

    execute: Annotated[
        str | None,
        typer.Option(
            "--exec",
            metavar="COMMAND",
            help="Run for each event of --on, one at a time; 64 wait, further ones are dropped and counted.",
        ),
    ] = None
    on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EVENT",
            autocompletion=completing(_events),
            help="Event for --exec and --bell: gap, reorg, any, ...; default: flashblock.",
        ),
    ] = None
    bell: Annotated[bool, typer.Option("--bell", help="Ring the terminal's bell for each event of --on.")] = (
        False
    )


@command(app, "watch", example=_EXAMPLES)
def watch(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL|PROFILE]",
            help="A ws:// or wss:// URL, or the name of a profile.",
            autocompletion=completing(_profiles),
            is_eager=True,
            callback=_load_target,
        ),
    ] = None,
    *,
    context: typer.Context,
    endpoint: StreamFlags,
    shown: OutputFlags,
    ending: EndFlags,
    only: FilterFlags,
    recording: RecordingFlags,
    following: TransactionFlags,
    against: ComparisonFlags,
    reactions: ReactionFlags,
    common: Common,
) -> ExitCode:
    """Tail, record and measure a flashblocks stream.

    On a terminal, a live view grouped by payload: ? shows its keys. Elsewhere one line per flashblock. Gaps,
    duplicates, restarts and truncated blocks are marked as they happen. Ctrl-C ends it with success.

    A DURATION is 500ms, 30s, 10m, 1h30m or 1d; a plain number is seconds.

    Exit codes: 0 ended as asked; 1 --fail-on happened, or the answer is no; 2 usage; 65 --strict; 69
    unreachable; 74 file; 76 not a stream; 77 refused; 124 --timeout; 130 and 143 a signal before the answer.
    """
    from flashctl.watch.config import (
        EndingConfig,
        HookConfig,
        OutputConfig,
        PeerConfig,
        RecordingConfig,
        TransactionConfig,
        WatchConfig,
    )
    from flashctl.watch.run import run
    from flashctl.watch.stop_conditions import parse_duration, parse_speed
    from flashctl.watch.stream_target import parse_headers, resolve_stream

    def seconds(text: str | None, flag: str) -> float | None:
        return None if text is None else parse_duration(text, flag)

    is_url = target is not None and "://" in target
    _refuse_contradictions(context, is_url, shown, ending, recording, reactions)
    stream = resolve_stream(
        target if is_url else endpoint.url,
        target if target is not None and not is_url else common.profile,
        needed=recording.replay is None,
        source=endpoint.source,
        headers=parse_headers(endpoint.header or (), endpoint.api_key_file),
        reconnect=endpoint.reconnect,
        ping_interval_s=parse_duration(endpoint.ping_interval, "--ping-interval"),
        pong_timeout_s=parse_duration(endpoint.pong_timeout, "--pong-timeout"),
        silence_s=parse_duration(endpoint.silence, "--silence"),
    )
    node = against.rpc or stream.rpc_url
    if against.check:
        from flashctl.watch.endpoint_check import run_check

        return run_check(stream.config, node, as_json=shown.json, notice=stream.notice)
    if against.confirm == "auto" and node is None:
        raise UsageError(
            "--confirm auto needs a node", hint="name it: --confirm URL, or use a profile that has one"
        )
    names = tuple(name.strip() for part in shown.fields or () for name in part.split(",") if name.strip())
    return run(
        WatchConfig(
            stream=stream.config,
            filters=_filters(only),
            output=OutputConfig(
                form="json" if shown.json else "raw" if shown.raw else shown.output,
                fields=names,
                template=_template(shown.format),
                color=shown.color,
                quiet=common.verbosity < 0,
                stats=shown.stats,
                stats_every_s=seconds(shown.stats_every, "--stats-every"),
                interval_ms=parse_duration(shown.interval, "--interval") * 1000,
                plot=shown.plot,
            ),
            ending=EndingConfig(
                count=ending.count,
                blocks=ending.blocks,
                duration_s=seconds(ending.duration, "--duration"),
                until=ending.until or (),
                timeout_s=seconds(ending.timeout, "--timeout"),
                fail_on=ending.fail_on or (),
                strict=ending.strict,
                wait=endpoint.wait,
            ),
            recording=RecordingConfig(
                recording.record,
                recording.record_raw,
                recording.replay,
                None if recording.speed is None else parse_speed(recording.speed),
            ),
            peers=PeerConfig(
                serve=recording.serve,
                confirm=node if against.confirm == "auto" else against.confirm,
                compare=against.compare or (),
                rpc=node,
                send_rpc=against.rpc or stream.send_url,
            ),
            transaction=TransactionConfig(
                following.tx, following.send, following.stage, following.submitted_at
            ),
            hooks=HookConfig(reactions.execute, reactions.on or (), reactions.bell),
        )
    )


def _refuse_contradictions(
    context: typer.Context,
    is_url: bool,
    shown: OutputFlags,
    ending: EndFlags,
    recording: RecordingFlags,
    reactions: ReactionFlags,
) -> None:
    """Flags of which one would win silently, or that do nothing by themselves; unknown events.

    Raises:
        UsageError: Naming them.
    """
    source = context.get_parameter_source("url")
    if is_url and source is not None and source.name == "COMMANDLINE":
        raise UsageError("the argument and --url both name the stream", hint="give one of them")
    if recording.replay is not None and (is_url or _is_given(context, "url")):
        raise UsageError("a URL and --replay name two streams", hint="give one of them")
    for flag, events in (("--on", reactions.on), ("--fail-on", ending.fail_on)):
        for event in events or ():
            one_of(flag, event, _events())
    if reactions.on and reactions.execute is None and not reactions.bell:
        raise UsageError("--on without --exec or --bell does nothing", hint="name what to do at the event")
    given = [name for name in ("json", "raw", "fields", "format", "output") if _is_given(context, name)]
    if "output" in given and shown.output in given:
        given.remove("output")  # --json -o json
    forms = [f"--{name}" for name in given]
    if len(forms) > 1:
        raise UsageError(f"{' and '.join(forms)} are two forms of output", hint="give one of them")


def _template(text: str | None) -> str | None:
    return None if text is None else text.replace("\\n", "\n").replace("\\t", "\t")


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether a flag stands on the command line itself."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _filters(only: FilterFlags) -> FilterConfig:
    from flashctl.watch.config import FilterConfig

    return FilterConfig(
        addresses=only.address or (),
        senders=only.sender or (),
        targets=only.to or (),
        selectors=only.selector or (),
        topics=only.topic or (),
        types=only.type or (),
        min_value=only.min_value,
        no_deposits=only.no_deposits,
        indices=only.index,
    )
