"""`flashctl decode` as a person and a script use it: its output, its exit codes, its price."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.decode_lab import SENDER, blob_with_sidecar, check_golden, every_type, run_command

from flashctl.decode.engine import Engine
from flashctl.decode.present import JsonPresenter
from flashctl.decode.render import Style, TextPresenter
from flashctl.decode.tx_report import Options

RAWS = every_type()
HEX = {name: "0x" + raw.hex() for name, raw in RAWS.items()}
GOLDEN = Path(__file__).parent / "golden"
BATCH = "\n".join(
    [HEX["legacy"], "0xzz", "# a comment", "", HEX["eip1559"], "0x76" + "00" * 4, HEX["deposit"]]
)


def decode(
    monkeypatch: pytest.MonkeyPatch, *arguments: str, stdin: str | bytes = b""
) -> tuple[int, str, str]:
    data = stdin.encode() if isinstance(stdin, str) else stdin
    return run_command(["decode", *arguments], monkeypatch, data)


# -- one thing ------------------------------------------------------------------------------------


def test_a_listing_needs_no_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output, errors = decode(monkeypatch, HEX["eip1559"])
    assert (code, errors) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in output.splitlines())
    assert lines["type"] == "2 (eip1559)" and lines["from"] == SENDER
    assert lines["maxFeePerGas"] == "2000000000 wei (2 gwei)"
    assert lines["call"] == "transfer(address,uint256)" and lines["amount"] == "1500000"


@pytest.mark.parametrize("field", ["maxFeePerGas", "from", "signingHash", "flashctl.call.name", "accessList"])
def test_a_positional_field_prints_just_that(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    name = field if "." not in field else "call"
    code, output, _ = decode(monkeypatch, HEX["eip1559"], name)
    assert code == 0 and output.count("\n") == 1 and output.strip()


def test_fields_are_tab_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output, _ = decode(
        monkeypatch, HEX["eip1559"], HEX["legacy"], "--fields", "type,from,flashctl.call.name"
    )
    assert code == 0 and output == f"0x2\t{SENDER}\ttransfer\n0x0\t{SENDER}\t\n"


def test_decimal_quantities(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decode(monkeypatch, HEX["eip1559"], "--decimal", "maxFeePerGas")[1] == "2000000000\n"
    report = json.loads(decode(monkeypatch, HEX["eip1559"], "--decimal", "--json")[1])
    assert report["gas"] == "65000" and report["hash"].startswith("0x")


def test_json_is_one_object_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output, _ = decode(monkeypatch, *HEX.values(), "--json")
    reports = [json.loads(line) for line in output.splitlines()]
    assert code == 0 and len(reports) == len(HEX)
    assert {report["type"] for report in reports} == {"0x0", "0x1", "0x2", "0x3", "0x4", "0x7e"}


def test_no_senders_leaves_them_out(monkeypatch: pytest.MonkeyPatch) -> None:
    report = json.loads(decode(monkeypatch, HEX["eip1559"], "--json", "--no-senders")[1])
    assert report["from"] is None and report["flashctl"]["signature"] == "not checked"


def test_signatures_from_the_command_line_and_an_abi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    output = decode(monkeypatch, HEX["eip1559"], "--sig", "transfer(address whom,uint256 wad)")[1]
    assert "  wad  " in output
    abi = tmp_path / "abi.json"
    abi.write_text(json.dumps([{"name": "transfer", "inputs": [
        {"name": "dst", "type": "address"}, {"name": "guy", "type": "uint256"}]}]))  # fmt: skip
    assert "  guy  " in decode(monkeypatch, HEX["eip1559"], "--abi", str(abi))[1]


def test_blobs_are_written_only_on_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrapped, _ = blob_with_sidecar()
    code, output, _ = decode(monkeypatch, "0x" + wrapped.hex(), "--blobs", str(tmp_path / "out"))
    assert code == 0 and len(output) < 5_000, "a listing never dumps blobs"
    assert [path.stat().st_size for path in sorted((tmp_path / "out").iterdir())] == [131_072] * 2


# -- where it comes from --------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("-",), ()])
def test_standard_input(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    assert decode(monkeypatch, *arguments, "from", stdin=HEX["legacy"])[1] == SENDER + "\n"


def test_binary_input_and_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, raw in RAWS.items():
        assert decode(monkeypatch, "-", "hash", stdin=raw)[0] == 0, name
    path = tmp_path / "txs.txt.gz"
    path.write_bytes(gzip.compress("\n".join(HEX.values()).encode()))
    code, output, _ = decode(monkeypatch, str(path), "--fields", "hash")
    assert code == 0 and output.count("\n") == len(HEX)


def test_a_json_document_over_many_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps({"jsonrpc": "2.0", "result": [HEX["legacy"], HEX["eip1559"]]}, indent=2)
    code, output, _ = decode(monkeypatch, "-", "--fields", "type", stdin=text)
    assert (code, output) == (0, "0x0\n0x2\n")


# -- what goes wrong ------------------------------------------------------------------------------


def test_a_batch_goes_on_after_bad_lines_and_exits_65(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output, errors = decode(monkeypatch, "-", "--fields", "type", stdin=BATCH)
    assert (code, output) == (65, "0x0\n0x2\n0x7e\n")
    assert [line.split(": ")[2] for line in errors.splitlines()] == ["line 2", "line 6"]


def test_in_json_errors_are_objects_in_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output, errors = decode(monkeypatch, "-", "--json", stdin=BATCH)
    reports = [json.loads(line) for line in output.splitlines()]
    assert (code, errors, len(reports)) == (65, "", 5)
    assert reports[1]["error"]["line"] == 2 and "not hex" in reports[1]["error"]["message"]
    assert (
        reports[3]["error"]["line"] == 6 and "unknown transaction type 0x76" in reports[3]["error"]["message"]
    )


def test_several_processes_print_what_one_prints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "batch.txt"
    path.write_text("\n".join([BATCH] * 300))
    for form in (["--fields", "hash,from,value"], ["--fields", "hash,signingHash"], ["--json"]):
        one = decode(monkeypatch, str(path), *form, "-j", "1")
        two = decode(monkeypatch, str(path), *form, "-j", "2")
        assert one == two and one[0] == 65, form


def test_a_large_batch_prints_what_small_ones_print(monkeypatch: pytest.MonkeyPatch) -> None:
    """The large one is printed without reports, and with Windows line ends as well."""
    for form in (["--fields", "hash,from,value"], ["--fields", "hash,to,value", "--no-senders"]):
        code, small, _ = decode(monkeypatch, *form, stdin=BATCH)
        for line_end in ("\n", "\r\n"):
            large = (BATCH + "\n").replace("\n", line_end) * 300
            assert decode(monkeypatch, *form, stdin=large)[:2] == (code, small * 300)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["0xzz"], 65, "not hex"),
        (["0x02f8…"], 65, "not hex: '…' at character 4"),
        (["0x02"], 65, "the data ends where an item should begin at offset 1"),
        ([HEX["eip1559"][:-2]], 65, "runs 1 past the end"),
        (["nonsense"], 2, "neither hex, JSON, a file nor a field"),
        ([HEX["eip1559"], "maxFeePerGaz"], 2, "did you mean"),
        ([HEX["eip1559"], "--fields", "hsh"], 2, "unknown field 'hsh'"),
        ([HEX["eip1559"], "--as", "cat"], 2, "is not one of tx, flashblock"),
        ([HEX["eip1559"], "--fork", "frontier", "--l1-base-fee", "1"], 2, "not a fork"),
        ([HEX["eip1559"], "--sig", "x"], 2, "not a signature"),
        ([HEX["eip1559"], "--abi", "absent.json"], 74, "cannot read absent.json"),
        ([HEX["legacy"], "maxFeePerGas"], 1, "there is no maxFeePerGas in it"),
        ([HEX["legacy"], "--json", "--fields", "hash"], 2, "exclude each other"),
    ],
)
def test_bad_input_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    result, _, errors = decode(monkeypatch, *arguments)
    assert result == code
    assert words in errors and len(errors.splitlines()) <= 2 and "Traceback" not in errors


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (RAWS["eip1559"], 0),
        (RAWS["eip1559"] + b"\x00", 1),
        (RAWS["eip1559"][:-32] + bytes([1]) * 32, 0),
        (RAWS["eip1559"][:-33] + b"\xa0" + b"\xff" * 32, 1),
        (RAWS["eip1559"][:9], 65),
    ],
)
def test_verify_decides_with_the_exit_code(monkeypatch: pytest.MonkeyPatch, raw: bytes, code: int) -> None:
    assert decode(monkeypatch, "0x" + raw.hex(), "--verify")[0] == code
    assert decode(monkeypatch, "0x" + raw.hex())[0] == (65 if code == 65 else 0)


def test_another_chain_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decode(monkeypatch, HEX["eip1559"], "--verify", "--chain-id", "8453")[0] == 0
    code, output, _ = decode(monkeypatch, HEX["eip1559"], "--verify", "--chain-id", "10")
    assert code == 1 and "invalid chain id" in output


def test_text_from_outside_cannot_drive_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    evil = b"\x1b[2J\x07pwned"
    call = (
        bytes.fromhex("c47f0027")
        + (32).to_bytes(32, "big")
        + len(evil).to_bytes(32, "big")
        + evil.ljust(32, b"\0")
    )
    deposit = {
        "type": "0x7e", "sourceHash": "0x" + "00" * 32, "from": SENDER, "to": SENDER, "mint": "0x0",
        "value": "0x0", "gas": "0x5208", "input": "0x" + call.hex(),
    }  # fmt: skip
    output = decode(monkeypatch, json.dumps(deposit), "--color", "always")[1]
    assert "\\x1b[2J\\x07pwned" in output and "\x1b[2J" not in output


# -- golden output --------------------------------------------------------------------------------


def render(style: Style, *, full: bool = False) -> str:
    presenter = TextPresenter(style, full=full)
    lines = [
        line
        for text in HEX.values()
        for report in Engine(Options(base_fee=10**9)).line(text)
        for line in presenter.show(report)
    ]
    return "\n".join([*lines, *presenter.finish()]) + "\n"


@pytest.mark.parametrize(
    ("name", "style"),
    [
        ("table-plain", Style()),
        ("table-80", Style(width=80)),
        ("table-wide", Style(width=160)),
        ("table-colour", Style(width=100, colour=True)),
    ],
)
def test_golden_tables(name: str, style: Style) -> None:
    text = render(style)
    if style.width is not None and not style.colour:
        assert max(map(len, text.splitlines())) <= style.width
    assert ("\x1b" in text) == style.colour
    check_golden(GOLDEN / f"{name}.txt", text)


@pytest.mark.parametrize("style", [Style(width=80), Style(width=160), Style(width=80, colour=True), Style()])
def test_golden_listings(style: Style) -> None:
    name = f"listing-{style.width or 'plain'}{'-colour' if style.colour else ''}.txt"
    check_golden(GOLDEN / name, render(style, full=True))


def test_golden_json() -> None:
    presenter = JsonPresenter()
    lines = [
        line
        for text in HEX.values()
        for report in Engine(Options()).line(text)
        for line in presenter.show(report)
    ]
    check_golden(GOLDEN / "reports.ndjson", "\n".join(lines) + "\n")


# -- processes ------------------------------------------------------------------------------------


def flashctl(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "flashctl", *arguments], input=stdin, capture_output=True, timeout=60
    )


def test_decoding_one_transaction_imports_nothing_heavy() -> None:
    """140 ms of start-up on a quiet core; each of these alone would cost 20 to 170 of them."""
    code = (
        "import sys; from flashctl.cli.app import main; code = main(sys.argv[1:]);"
        "heavy = {'rlp', 'rich', 'httpx', 'websockets', 'asyncio', 'uvloop', 'uvicorn', 'cryptography',"
        " 'multiprocessing', 'concurrent.futures', 'flashctl.evm.machine', 'brotli', 'zstandard'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "decode", HEX["eip1559"]], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0
    assert result.stderr.strip() == "[]"


def test_a_reader_that_leaves_ends_it_silently() -> None:
    command = f"{sys.executable} -m flashctl decode - --json | head -1"
    lines = "\n".join(list(HEX.values()) * 200)
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], input=lines.encode(), capture_output=True, timeout=60
    )
    assert result.returncode == 141 and result.stderr == b"" and result.stdout.count(b"\n") == 1


def test_lines_are_decoded_as_they_arrive() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "flashctl", "decode", "-", "--fields", "type"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        for name, expected in (("legacy", b"0x0\n"), ("eip1559", b"0x2\n")):
            process.stdin.write(HEX[name].encode() + b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == expected
        process.stdin.close()
        assert process.wait(60) == 0
