"""`flashctl decode`: what a transaction, a flashblock, a block or a receipt says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

import typer

from flashctl.cli.options import command, new_app
from flashctl.cli.values import built_in_chains, completing
from flashctl.errors import ExitCode

__all__ = ["app"]

app = new_app()

Kind = Literal["tx", "flashblock", "block", "header", "receipt", "payload", "log", "call", "error", "rlp"]

_EXAMPLES = """\
flashctl decode 0x02f8...                        a listing of one transaction
flashctl decode 0x02f8... maxFeePerGas           one field of it
flashctl decode 0x095ea7b3...                    a call, without a transaction around it
flashctl decode txs.txt --fields hash,from,to    a table of many, tab-separated
cast rpc debug_getRawBlock latest | flashctl decode --as block --json
flashctl watch unichain --json | flashctl decode - --json | jq -r .from
cast rpc eth_getBlockByNumber 0x8 true | flashctl decode --execute witness.json
"""


def _fields() -> list[str]:
    from flashctl.decode.fields import FIELDS

    return list(FIELDS)


def _forks() -> list[str]:
    from flashctl.op.forks import OpFork

    return [fork.label for fork in OpFork]


class Output(NamedTuple):
    """What is printed"""

    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line; a container as one object with --as.")
    ] = False
    fields: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B,…",
            autocompletion=completing(_fields, listed=True),
            help="Only these fields of each, tab-separated, one a line.",
        ),
    ] = None
    full: Annotated[
        bool, typer.Option("--full", help="List every transaction in full instead of in a table.")
    ] = False
    decimal: Annotated[bool, typer.Option("--decimal", help="Print quantities in decimal.")] = False
    senders: Annotated[
        bool, typer.Option("--senders/--no-senders", help="Recover senders and authorities (50 us each).")
    ] = True
    blobs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the blobs of a sidecar to files in DIR.")
    ] = None
    color: Annotated[Literal["auto", "always", "never"], typer.Option(help="auto: on a terminal.")] = "auto"


class Reading(NamedTuple):
    """How input is read"""

    kind: Annotated[
        Kind | None,
        typer.Option(
            "--as", metavar="KIND", help=f"What the input is, if not found out: {', '.join(get_args(Kind))}."
        ),
    ] = None
    abi: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="JSON ABI or compiler artifact with further signatures."),
    ] = None
    sig: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SIGNATURE", help="Further function, event or error, as 'transfer(address to,uint256)'."
        ),
    ] = None
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, metavar="N", help="Processes for a batch; default: by its size."),
    ] = None


class Checks(NamedTuple):
    """What is checked"""

    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Recompute signatures, hashes, roots and blooms; exit 1 if anything does not match.",
        ),
    ] = False
    execute: Annotated[
        Path | None,
        typer.Option(
            metavar="WITNESS", help="Execute a block on this file, an answer of debug_executionWitness."
        ),
    ] = None
    chain: Annotated[
        str | None,
        typer.Option(
            metavar="CHAIN",
            autocompletion=completing(built_in_chains),
            help="Rules for --execute: a built-in chain; default: by the transactions' chain id.",
        ),
    ] = None
    genesis: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Rules for --execute: genesis.json or rollup.json of any chain."),
    ] = None


class Prices(NamedTuple):
    """Prices and chain, for what a transaction pays"""

    base_fee: Annotated[
        int | None,
        typer.Option(metavar="WEI", min=0, help="Base fee of the block; shows effective price and tip."),
    ] = None
    chain_id: Annotated[
        int | None, typer.Option(metavar="ID", min=0, help="Report transactions for another chain.")
    ] = None
    l1_base_fee: Annotated[
        int | None,
        typer.Option(metavar="WEI", min=0, help="Base fee of L1; shows the L1 fee, with the next four."),
    ] = None
    blob_base_fee: Annotated[int | None, typer.Option(metavar="WEI", min=0, help="Blob base fee of L1.")] = (
        None
    )
    base_fee_scalar: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="baseFeeScalar of the L1 attributes.")
    ] = None
    blob_base_fee_scalar: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="blobBaseFeeScalar of the L1 attributes.")
    ] = None
    fork: Annotated[
        str | None,
        typer.Option(
            metavar="FORK", autocompletion=completing(_forks), help="Whose L1 fee formula; default: jovian."
        ),
    ] = None


@command(app, "decode", logs=False, example=_EXAMPLES)
def decode(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUT]... [FIELD]",
            help="Hex, JSON, files, or - for stdin. The last one may name a field to print alone.",
            autocompletion=completing(_fields),
        ),
    ] = None,
    *,
    output: Output,
    reading: Reading,
    checks: Checks,
    prices: Prices,
) -> ExitCode:
    """Explain transactions, flashblocks, blocks and receipts.

    Reads signed and unsigned transactions of every OP Stack type, blob transactions with sidecar,
    flashblock JSON, recorded streams, blocks, headers and receipts in RLP, engine payloads and answers of
    nodes, and detects which it is. JSON has the field names of JSON-RPC; what a node does not return is
    under "flashctl".

    --execute runs a block and reports for every field of its header whether it matches, and for every
    transaction its status, gas and fee.

    Exit codes: 0 decoded; 1 --verify or --execute found a problem; 2 usage; 65 something could not be
    decoded.
    """
    from flashctl.decode.config import DecodeConfig
    from flashctl.decode.run import run

    names = tuple(name.strip() for part in output.fields or () for name in part.split(",") if name.strip())
    return run(
        DecodeConfig(
            inputs=tuple(inputs or ()),
            kind=reading.kind,
            json=output.json,
            fields=names,
            full=output.full,
            decimal=output.decimal,
            verify=checks.verify,
            senders=output.senders,
            abi=tuple(reading.abi or ()),
            signatures=tuple(reading.sig or ()),
            blobs=output.blobs,
            execute=checks.execute,
            chain=checks.chain,
            genesis=checks.genesis,
            jobs=reading.jobs,
            color=output.color,
            **prices._asdict(),
        )
    )
