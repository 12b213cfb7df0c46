"""`flashctl decode`: what a transaction, a flashblock, a block or a receipt says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flashctl.cli.options import command, new_app
from flashctl.errors import ExitCode

__all__ = ["app"]

app = new_app()

_KINDS = ("tx", "flashblock", "block", "header", "receipt", "payload", "log", "call", "error", "rlp")

_EXAMPLES = """\
flashctl decode 0x02f8...                        a listing of one transaction
flashctl decode 0x02f8... maxFeePerGas           one field of it
flashctl decode 0x095ea7b3...                    a call, without a transaction around it
flashctl decode txs.txt --fields hash,from,to    a table of many, tab-separated
cast rpc debug_getRawBlock latest | flashctl decode --as block --json
flashctl watch unichain --json | flashctl decode - --json | jq -r .from
cast rpc eth_getBlockByNumber 0x8 true | flashctl decode --execute witness.json
"""


def _complete_kind(incomplete: str) -> list[str]:
    return [kind for kind in _KINDS if kind.startswith(incomplete)]


def _complete_fields(incomplete: str) -> list[str]:
    from flashctl.decode.fields import FIELDS

    given, comma, last = incomplete.rpartition(",")
    return [given + comma + name for name in FIELDS if name.startswith(last)]


def _complete_fork(incomplete: str) -> list[str]:
    from flashctl.op.forks import OpFork

    return [fork.label for fork in OpFork if fork.label.startswith(incomplete)]


def _complete_chain(incomplete: str) -> list[str]:
    from flashctl.op.registry import CHAINS

    return [name for name in CHAINS if name.startswith(incomplete)]


@command(app, "decode", logs=False, example=_EXAMPLES)
def decode(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUT]... [FIELD]",
            help="Hex, JSON, files, or - for stdin. The last one may name a field to print alone.",
            autocompletion=_complete_fields,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="KIND",
            autocompletion=_complete_kind,
            help=f"What bytes are: {', '.join(_KINDS)}.",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line; a container as one object with --as.")
    ] = False,
    fields: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", autocompletion=_complete_fields, help="Print these, tab-separated."),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="List every transaction in full instead of in a table.")
    ] = False,
    decimal: Annotated[bool, typer.Option("--decimal", help="Print quantities in decimal.")] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Exit 1 for a bad signature, non-canonical bytes or another stateless rule."
        ),
    ] = False,
    senders: Annotated[
        bool, typer.Option("--senders/--no-senders", help="Recover senders and authorities (50 us each).")
    ] = True,
    base_fee: Annotated[
        int | None,
        typer.Option(metavar="WEI", min=0, help="Of the block; shows price and tip."),
    ] = None,
    chain_id: Annotated[
        int | None, typer.Option(metavar="ID", min=0, help="Report transactions for another chain.")
    ] = None,
    l1_base_fee: Annotated[
        int | None, typer.Option(metavar="WEI", min=0, help="Price data on L1, with the next four.")
    ] = None,
    blob_base_fee: Annotated[int | None, typer.Option(metavar="WEI", help="Of L1.")] = None,
    base_fee_scalar: Annotated[int | None, typer.Option(help="Of the L1 attributes.")] = None,
    blob_base_fee_scalar: Annotated[int | None, typer.Option(help="Of the L1 attributes.")] = None,
    fork: Annotated[
        str | None, typer.Option(autocompletion=_complete_fork, help="Whose L1 fee formula; default jovian.")
    ] = None,
    abi: Annotated[list[Path] | None, typer.Option(help="JSON ABI or artifact with more signatures.")] = None,
    sig: Annotated[
        list[str] | None, typer.Option(metavar="SIGNATURE", help="Such as 'transfer(address to,uint256)'.")
    ] = None,
    blobs: Annotated[Path | None, typer.Option(metavar="DIR", help="Write a sidecar's blobs there.")] = None,
    execute: Annotated[
        Path | None,
        typer.Option(metavar="WITNESS", help="Execute a block on the answer of debug_executionWitness."),
    ] = None,
    chain: Annotated[
        str | None,
        typer.Option(metavar="NAME", autocompletion=_complete_chain, help="Whose rules --execute follows."),
    ] = None,
    genesis: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same from a genesis.json or rollup.json.")
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", help="Processes for a large batch.")] = None,
    color: Annotated[str, typer.Option(help="auto, always or never.")] = "auto",
) -> ExitCode:
    """Explain transactions, flashblocks, blocks and receipts.

    Reads signed and unsigned transactions of every OP Stack type, blob transactions with sidecar,
    flashblock JSON, recorded streams, blocks, headers and receipts in RLP, engine payloads and answers of
    nodes, and finds out by itself which it is. JSON has the field names of JSON-RPC; what a node does not
    say is under "flashctl".

    --execute runs a block and says of every field of its header whether it comes out, and of every
    transaction its status, gas and fee.

    Exit codes: 0 decoded; 1 --verify or --execute found a problem; 2 usage; 65 something could not be
    decoded.
    """
    from flashctl.cli.values import one_of
    from flashctl.decode.config import DecodeConfig
    from flashctl.decode.run import run

    one_of("--color", color, ("auto", "always", "never"))
    names = tuple(name.strip() for part in fields or () for name in part.split(",") if name.strip())
    return run(
        DecodeConfig(
            inputs=tuple(inputs or ()),
            kind=kind,
            json=json,
            fields=names,
            full=full,
            decimal=decimal,
            verify=verify,
            senders=senders,
            base_fee=base_fee,
            chain_id=chain_id,
            fork=fork,
            l1_base_fee=l1_base_fee,
            blob_base_fee=blob_base_fee,
            base_fee_scalar=base_fee_scalar,
            blob_base_fee_scalar=blob_base_fee_scalar,
            abi=tuple(abi or ()),
            signatures=tuple(sig or ()),
            blobs=blobs,
            execute=execute,
            chain=chain,
            genesis=genesis,
            jobs=jobs,
            color=color,
        )
    )
