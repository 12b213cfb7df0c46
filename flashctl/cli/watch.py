"""`flashctl watch`: tail, record, replay and measure a flashblocks stream."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from flashctl.cli.options import Common, command, load_settings, new_app
from flashctl.cli.values import one_of
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


def _complete_target(incomplete: str) -> list[str]:
    from flashctl.core.settings.profile import profile_names

    return [name for name in profile_names() if name.startswith(incomplete)]


def _load_target(context: typer.Context, value: str | None) -> str | None:
    """A profile named by the argument holds settings as one named by -P does."""
    if value is None or context.resilient_parsing:
        return value
    if "://" in value:
        context.default_map = {**(context.default_map or {}), "url": value}  # for --save-profile
    else:
        host, colon, port = value.rpartition(":")
        if colon and port.isdigit() and "/" not in host:
            raise UsageError(f"{value!r} is neither a URL nor a profile", hint=f"write ws://{value}")
        load_settings(context, "watch", value)
    return value


def _complete_fields(incomplete: str) -> list[str]:
    from flashctl.watch.lines import FIELDS

    given, comma, last = incomplete.rpartition(",")
    return [given + comma + name for name in FIELDS if name.startswith(last)]


def _complete_event(incomplete: str) -> list[str]:
    from flashctl.watch.events import EVENT_NAMES

    return [name for name in (*EVENT_NAMES, "reorg", "any") if name.startswith(incomplete)]


def _complete_condition(incomplete: str) -> list[str]:
    from flashctl.watch.events import EVENT_NAMES

    conditions = ("tx:", "block:>=", "payload:", *(f"event:{name}" for name in EVENT_NAMES))
    return [condition for condition in conditions if condition.startswith(incomplete)]


def _complete_output(incomplete: str) -> list[str]:
    forms = ("auto", "table", "line", "json", "raw", "stats")
    return [form for form in forms if form.startswith(incomplete)]


class Endpoint(NamedTuple):
    """The stream and how to hold on to it."""

    url: Annotated[str | None, typer.Option(help="The stream, where the argument is not given.")] = None
    source: Annotated[str, typer.Option(help="auto, raw (a stream) or rpc (a node's eth_subscribe).")] = (
        "auto"
    )
    header: Annotated[list[str] | None, typer.Option("--header", "-H", metavar="'K: V'")] = None
    api_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Sent as Authorization: Bearer.")
    ] = None
    reconnect: Annotated[bool, typer.Option(help="Come back after a disconnect.")] = True
    wait: Annotated[bool, typer.Option("--wait", help="Keep trying an endpoint that is not there yet.")] = (
        False
    )
    ping_interval: Annotated[str, typer.Option(help="0 for none.")] = "5s"
    pong_timeout: Annotated[
        str, typer.Option(help="Generous: an answer waits behind data that is not read yet.")
    ] = "20s"
    silence: Annotated[str, typer.Option(help="Without data this long the connection is dead.")] = "15s"


class Output(NamedTuple):
    """What is printed."""

    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", autocompletion=_complete_output, help="auto, table, line, json, raw or stats."
        ),
    ] = "auto"
    json: Annotated[bool, typer.Option("--json", help="Short for -o json: every event, lossless.")] = False
    raw: Annotated[bool, typer.Option("--raw", help="Short for -o raw: messages as received.")] = False
    fields: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", autocompletion=_complete_fields, help="Print these, tab-separated."),
    ] = None
    format: Annotated[
        str | None, typer.Option("--format", metavar="TEMPLATE", help=r"Such as '{block} {index} {ntx}\n'.")
    ] = None
    stats: Annotated[bool, typer.Option("--stats", help="A summary at the end.")] = False
    stats_every: Annotated[str | None, typer.Option(help="A summary every 5s.")] = None
    interval: Annotated[str, typer.Option(help="The builder's; jitter is measured against it.")] = "200ms"
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw arrivals and sizes: .png, .svg, .pdf.")
    ] = None
    color: Annotated[str, typer.Option(help="auto, always or never.")] = "auto"


class Ending(NamedTuple):
    """When it ends, and with which exit code."""

    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="Stop after N flashblocks.")] = (
        None  # type: ignore[assignment]  # hides tuple's own, which nobody calls
    )
    blocks: Annotated[int | None, typer.Option(min=1, help="Stop after N payloads.")] = None
    duration: Annotated[str | None, typer.Option(help="Stop after 30s, 10m, 1h.")] = None
    until: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COND",
            autocompletion=_complete_condition,
            help="tx:HASH, block:>=N, payload:ID or event:NAME; any ends it.",
        ),
    ] = None
    timeout: Annotated[str | None, typer.Option(help="Give up after this, exit 124.")] = None
    fail_on: Annotated[
        list[str] | None,
        typer.Option(metavar="EVENT", autocompletion=_complete_event, help="Exit 1 if this happens."),
    ] = None
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 65 at the first frame that is no flashblock.")
    ] = False


class Filters(NamedTuple):
    """Which transactions and flashblocks count."""

    address: Annotated[list[str] | None, typer.Option(help="Only from, to or logged by this address.")] = None
    sender: Annotated[list[str] | None, typer.Option("--from", help="Only from this address.")] = None
    to: Annotated[list[str] | None, typer.Option("--to", help="Only to this address.")] = None
    selector: Annotated[
        list[str] | None,
        typer.Option(metavar="SELECTOR", help="Only calls of 0xa9059cbb or 'transfer(address,uint256)'."),
    ] = None
    topic: Annotated[list[str] | None, typer.Option(help="Only with this log topic.")] = None
    type: Annotated[list[str] | None, typer.Option("--type", help="Only of this type: 0x2, deposit.")] = None
    min_value: Annotated[int | None, typer.Option(metavar="WEI", min=0, help="Only worth at least this.")] = (
        None
    )
    no_deposits: Annotated[bool, typer.Option("--no-deposits", help="Leave deposits out.")] = False
    index: Annotated[str | None, typer.Option(metavar="N..M", help="Only these indices.")] = None  # type: ignore[assignment]  # as `count`


class Recording(NamedTuple):
    """Files: what arrives, kept and played again."""

    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep what arrives; .zst, .gz and .br compress.")
    ] = None
    record_raw: Annotated[bool, typer.Option("--record-raw", help="Keep frames bit by bit.")] = False
    replay: Annotated[Path | None, typer.Option(metavar="FILE", help="Follow a recording; - is stdin.")] = (
        None
    )
    speed: Annotated[str | None, typer.Option(help="Of a replay: 1, 10 or max.")] = None
    serve: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Publish what arrives as a stream again.")
    ] = None


class Following(NamedTuple):
    """One transaction's way to its block, and what a node says of ours."""

    tx: Annotated[str | None, typer.Option("--tx", metavar="HASH", help="Follow one transaction.")] = None
    send: Annotated[
        str | None, typer.Option(metavar="RAW", help="Send a signed transaction and follow it.")
    ] = None
    stage: Annotated[
        str | None, typer.Option(help="Where --tx ends: preconfirmed, or sealed (needs a node).")
    ] = None
    submitted_at: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="When it was sent, seconds since the epoch.")
    ] = None
    rpc: Annotated[
        str | None, typer.Option("--rpc", metavar="URL", help="The node to ask; a profile names one.")
    ] = None
    confirm: Annotated[
        str | None,
        typer.Option(
            metavar="RPC", help="Compare payloads with this node's sealed blocks; auto is the profile's node."
        ),
    ] = None
    compare: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Race another endpoint; repeatable.")
    ] = None
    check: Annotated[
        bool, typer.Option("--check", help="Check the endpoint and say what is wrong, with a fix.")
    ] = False


class Reactions(NamedTuple):
    """What to do at an event."""

    execute: Annotated[
        str | None, typer.Option("--exec", metavar="CMD", help="Run for each event named by --on.")
    ] = None
    on: Annotated[
        list[str] | None,
        typer.Option(metavar="EVENT", autocompletion=_complete_event, help="Also: reorg, any."),
    ] = None
    bell: Annotated[bool, typer.Option("--bell", help="Ring for each event named by --on.")] = False


@command(app, "watch", example=_EXAMPLES)
def watch(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL|PROFILE]",
            help="What to follow.",
            autocompletion=_complete_target,
            is_eager=True,
            callback=_load_target,
        ),
    ] = None,
    *,
    context: typer.Context,
    endpoint: Endpoint,
    shown: Output,
    ending: Ending,
    only: Filters,
    recording: Recording,
    following: Following,
    reactions: Reactions,
    common: Common,
) -> ExitCode:
    """Tail, record and measure a flashblocks stream.

    On a terminal, a live view grouped by payload: space pauses, / filters, q quits. Elsewhere one line per
    flashblock. Gaps, duplicates, restarts and truncated blocks are marked as they happen. Ctrl-C ends it
    with success.

    Exit codes: 0 ended as asked; 1 --fail-on happened, or the answer is no; 2 usage; 65 --strict; 69
    unreachable; 74 file; 76 not a stream; 77 refused; 124 --timeout.
    """
    from flashctl.watch.conditions import parse_duration, parse_speed
    from flashctl.watch.config import WatchConfig
    from flashctl.watch.run import run
    from flashctl.watch.targets import parse_headers, resolve_stream

    def seconds(text: str | None) -> float | None:
        return None if text is None else parse_duration(text)

    is_url = target is not None and "://" in target
    source = context.get_parameter_source("url")
    if is_url and source is not None and source.name == "COMMANDLINE":
        raise UsageError("the argument and --url both name the stream", hint="give one of them")
    if is_url and recording.replay is not None:
        raise UsageError("a URL and --replay name two streams", hint="give one of them")
    one_of("--color", shown.color, ("auto", "always", "never"))
    one_of("--source", endpoint.source, ("auto", "raw", "rpc"))
    forms = [f"--{name}" for name in ("json", "raw", "fields", "format") if _is_given(context, name)]
    if len(forms) > 1:
        raise UsageError(f"{' and '.join(forms)} are two forms of output", hint="give one of them")
    stream = resolve_stream(
        target if is_url else endpoint.url,
        target if target is not None and not is_url else common.profile,
        needed=recording.replay is None,
        source=endpoint.source,
        headers=parse_headers(endpoint.header or (), endpoint.api_key_file),
        reconnect=endpoint.reconnect,
        ping_interval_s=parse_duration(endpoint.ping_interval),
        pong_timeout_s=parse_duration(endpoint.pong_timeout),
        silence_s=parse_duration(endpoint.silence),
    )
    node = following.rpc or stream.rpc_url
    if following.check:
        from flashctl.watch.doctor import run_check

        return run_check(stream.config, node, as_json=shown.json, notice=stream.notice)
    if following.confirm == "auto" and node is None:
        raise UsageError(
            "--confirm auto needs a node", hint="name it: --confirm URL, or use a profile that has one"
        )
    names = tuple(name.strip() for part in shown.fields or () for name in part.split(",") if name.strip())
    settings: dict[str, Any] = {"output": "json" if shown.json else "raw" if shown.raw else shown.output}
    return run(
        WatchConfig(
            stream=stream.config,
            filters=_filters(only),
            fields=names,
            template=None if shown.format is None else shown.format.replace("\\n", "\n").replace("\\t", "\t"),
            count=ending.count,
            blocks=ending.blocks,
            duration_s=seconds(ending.duration),
            until=ending.until or (),
            timeout_s=seconds(ending.timeout),
            fail_on=ending.fail_on or (),
            strict=ending.strict,
            stats=shown.stats,
            stats_every_s=seconds(shown.stats_every),
            interval_ms=parse_duration(shown.interval) * 1000,
            wait=endpoint.wait,
            record=recording.record,
            record_raw=recording.record_raw,
            replay=recording.replay,
            speed=None if recording.speed is None else parse_speed(recording.speed),
            serve=recording.serve,
            confirm=node if following.confirm == "auto" else following.confirm,
            compare=following.compare or (),
            tx=following.tx,
            send=following.send,
            rpc=node,
            send_rpc=following.rpc or stream.send_url,
            stage=following.stage,
            submitted_at=following.submitted_at,
            execute=reactions.execute,
            on=reactions.on or (),
            bell=reactions.bell,
            plot=shown.plot,
            color=shown.color,
            quiet=common.verbosity < 0,
            **settings,
        )
    )


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether a flag stands on the command line itself."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _filters(only: Filters) -> FilterConfig:
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
