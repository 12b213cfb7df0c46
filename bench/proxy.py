"""Fan-out: `flashctl proxy` beside a bare C sender, websockets' broadcast, plain transports, nginx + nchan
and Node `ws`.

    python bench/proxy.py                       # every row, every server that is installed
    python bench/proxy.py --clients 1000 --size 50000 --rate 5 --server flashctl --server c

The server under test is pinned to CPU 0, publisher and load client to CPU 1. A publisher writes the time of
each message into a file mapped by all, the C load client (bench/load_client.c) writes when the slowest
client had it in full. `flashctl proxy` and `node` get the stream from the publisher over a WebSocket, nchan
by HTTP POST; the C sender publishes itself and so is spared the hop. Rate 0 is as fast as a window of
messages not yet received by every client allows.

The C sender is the limit: it has its frames ready and receives nothing, where the proxy reads its upstream,
places and deduplicates each message and frames it, a fixed 0.3 ms where 200 ms lie between two messages and
the caches hold other things by then. With 100 clients that is a third of the sends, with 1,000 it is lost in
them.

CPU seconds are the kernel's count of the server's threads (schedstat), so they hold on a busy machine; the
wait column says how much of the time the server wanted a CPU and did not get it: above 10 % latencies mean
little.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
SLOTS = 65536
SHARED_BYTES = 64 + 16 * SLOTS
FLASHBLOCKS_PER_BLOCK = 10
CORPUS = 60
SERVER_CPU, CLIENT_CPU = 0, 1
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
"""Of Debian's libnginx-mod-nchan."""
SERVERS = ("c", "flashctl", "broadcast", "transports", "nchan", "node")

EXTENSIONS = {
    "deflate": ["Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover"],
    "takeover": ["Sec-WebSocket-Extensions: permessage-deflate"],
}
"""What the clients offer for an encoding; the others are named in the query."""


# -- what the processes share
# ---------------------------------------------------------------------------------


class Shared:
    """The mapped file of bench/fanout.h."""

    PUBLISHED, COMPLETED, DELIVERIES, CONNECTED, STOP, LOST, GO, DONE = range(8)

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        if create:
            path.write_bytes(bytes(SHARED_BYTES))
        with path.open("r+b") as file:
            self.map = mmap.mmap(file.fileno(), SHARED_BYTES)
        self.words = memoryview(self.map).cast("Q")

    def published_ns(self, message: int) -> int:
        """When the message was handed to the server."""
        return self.words[8 + message]

    def last_ns(self, message: int) -> int:
        """When the last client had it; 0 when it never did."""
        return self.words[8 + SLOTS + message]

    def begin(self, message: int) -> None:
        """Note that the message is published now."""
        self.words[8 + message] = time.monotonic_ns()
        self.words[self.PUBLISHED] = message + 1


def corpus(size: int, count: int = CORPUS) -> list[bytes]:
    """Flashblocks of exactly `size` bytes in op-rbuilder's shape, compressing about as real ones do."""
    source = random.Random(size)
    messages = []
    accounts = [source.randbytes(20).hex() for _ in range(200)]
    for number in range(count):
        index = number % FLASHBLOCKS_PER_BLOCK
        message = {
            "payload_id": f"0x03{number // FLASHBLOCKS_PER_BLOCK:014x}",
            "index": index,
            "diff": {
                "state_root": "0x" + source.randbytes(32).hex(),
                "receipts_root": "0x" + source.randbytes(32).hex(),
                "logs_bloom": "0x" + "00" * 256,
                "gas_used": hex(source.randrange(1 << 24)),
                "block_hash": "0x" + source.randbytes(32).hex(),
                "transactions": [],
                "withdrawals": [],
                "withdrawals_root": "0x" + source.randbytes(32).hex(),
            },
            "metadata": {
                "block_number": 1000 + number // FLASHBLOCKS_PER_BLOCK,
                "new_account_balances": {},
                "receipts": {},
            },
        }
        if index == 0:
            message["base"] = {"block_number": hex(1000 + number // FLASHBLOCKS_PER_BLOCK)}
        messages.append(_filled(message, size, source, accounts))
    return messages


def _filled(message: dict, size: int, source: random.Random, accounts: list[str]) -> bytes:
    """Transactions, receipts and balances until the message has its size, then padding to the byte."""
    metadata = message["metadata"]
    while True:
        one = "0x" + source.randbytes(32).hex()
        address = "0x" + source.choice(accounts)
        log = {
            "address": address,
            "topics": ["0x" + "dd" * 32, "0x" + "00" * 12 + address[2:]],
            "data": "0x" + "00" * 30 + source.randbytes(2).hex(),
        }
        metadata["receipts"][one] = {
            "type": "0x2",
            "status": "0x1",
            "cumulativeGasUsed": hex(source.randrange(1 << 24)),
            "logs": [log] * source.randrange(3),
            "logsBloom": "0x" + "00" * 256,
        }
        metadata["new_account_balances"][address] = hex(source.randrange(1 << 60))
        message["diff"]["transactions"].append("0x02" + source.randbytes(110).hex())
        if len(json.dumps(message)) > size - 40:
            for part in (metadata["receipts"], metadata["new_account_balances"]):
                if part:
                    part.popitem()
            message["diff"]["transactions"].pop()
            break
    message["padding"] = ""
    message["padding"] = "0" * (size - len(json.dumps(message)))
    data = json.dumps(message).encode()
    assert len(data) == size, (len(data), size)
    return data


# -- the publisher
# --------------------------------------------------------------------------------------------


async def paced(shared: Shared, rate: float, window: int, seconds: float) -> Iterator[int]:
    """Yield message numbers when they are due; waits for GO first."""
    while not shared.words[Shared.GO]:  # noqa: ASYNC110 - another process sets it
        await asyncio.sleep(0.005)
    begin = time.monotonic()
    number = 0
    while time.monotonic() - begin < seconds and number < SLOTS:
        if rate > 0:
            delay = begin + number / rate - time.monotonic()
            await asyncio.sleep(max(0.0, delay))
        else:
            while number - shared.words[Shared.COMPLETED] >= window:
                await asyncio.sleep(0.0005)
                if time.monotonic() - begin > seconds + 5:
                    return
        yield number
        number += 1
    deadline = time.monotonic() + 5
    while shared.words[Shared.COMPLETED] < number and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    shared.words[Shared.DONE] = 1


def renumbered(message: bytes, number: int) -> bytes:
    """The corpus goes round; payload ids must not, or the proxy drops them as duplicates."""
    block = number // FLASHBLOCKS_PER_BLOCK
    return message.replace(
        b"0x03%014x" % ((number % CORPUS) // FLASHBLOCKS_PER_BLOCK), b"0x03%014x" % block, 1
    ).replace(
        b'"block_number": %d' % (1000 + (number % CORPUS) // FLASHBLOCKS_PER_BLOCK),
        b'"block_number": %d' % (1000 + block % 9000),
        1,
    )


async def publish_ws(shared: Shared, size: int, rate: float, window: int, seconds: float) -> None:
    """A stream to subscribe to: prints its port, publishes when told."""
    from flashctl.core.hub import Hub, serve

    hub = Hub()
    server = await serve(hub, "127.0.0.1", 0)
    print(server.port, flush=True)
    messages = corpus(size)
    async for number in paced(shared, rate, window, seconds):
        data = renumbered(messages[number % CORPUS], number)
        shared.begin(number)
        hub.publish(data, payload_id=str(number // 10), index=number % 10, block_number=number // 10)
    while not shared.words[Shared.STOP]:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def publish_post(
    shared: Shared, size: int, rate: float, window: int, seconds: float, port: int
) -> None:
    """POST each message to nchan on one kept-alive connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    messages = corpus(size)
    async for number in paced(shared, rate, window, seconds):
        data = messages[number % CORPUS]
        shared.begin(number)
        writer.write(b"POST /pub HTTP/1.1\r\nHost: b\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]) if b"ontent-" in head else 0
        await reader.readexactly(length)


# -- processes
# ------------------------------------------------------------------------------------------------


def _pin(cpu: int):
    def apply() -> None:
        if os.cpu_count() and os.cpu_count() > 1:
            os.sched_setaffinity(0, {cpu})

    return apply


@dataclass
class Usage:
    """Seconds on a CPU, and seconds spent waiting for one."""

    on_cpu: float = 0.0
    waiting: float = 0.0


def usage(pids: list[int]) -> Usage:
    """Over all threads, from the scheduler's own books."""
    total = Usage()
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            on_cpu, waiting, _ = task.read_text().split()
            total.on_cpu += int(on_cpu) / 1e9
            total.waiting += int(waiting) / 1e9
    return total


def rss_kib(pids: list[int]) -> int:
    """Resident memory; for nginx the sum of its workers."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1])
    return total


class Children:
    """Processes of one run, ended with it."""

    def __init__(self) -> None:
        self.all: list[subprocess.Popen] = []

    def start(self, command: list[str], cpu: int, **settings) -> subprocess.Popen:
        """Start one, pinned."""
        child = subprocess.Popen(command, preexec_fn=_pin(cpu), **settings)
        self.all.append(child)
        return child

    def end(self) -> None:
        """End all of them."""
        for child in reversed(self.all):
            child.terminate()
        for child in self.all:
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@dataclass
class Run:
    """One cell of the table."""

    server: str
    clients: int
    size: int
    rate: float
    seconds: float
    window: int
    encoding: str = "none"
    children: Children = field(default_factory=Children)


def build(folder: Path) -> None:
    """Compile the C parts."""
    for name in ("load_client", "epoll_sender"):
        subprocess.run(["cc", "-O2", "-o", str(folder / name), str(HERE / f"{name}.c")], check=True, cwd=HERE)


def start_server(run: Run, shared: Shared, folder: Path) -> tuple[int, list[int], str]:
    """Start publisher and server; the port clients connect to, the server's pids, the path."""
    pace = [str(run.size), str(run.rate), str(run.window), str(run.seconds)]
    if run.server == "c":
        frames = folder / "frames"
        body = [b"\x81\x7e" + len(m).to_bytes(2, "big") + m for m in corpus(run.size)]
        frames.write_bytes(len(body[0]).to_bytes(8, sys.byteorder) + b"".join(body))
        child = run.children.start(
            [str(folder / "epoll_sender"), str(shared.path), str(run.clients), str(frames), *pace[1:]],
            SERVER_CPU,
            stdout=subprocess.PIPE,
        )
        return int(child.stdout.readline()), [child.pid], "/"
    if run.server == "nchan":
        port, pids = start_nchan(run, folder)
        run.children.start(
            [sys.executable, str(HERE / "proxy.py"), "--publish", "post", str(shared.path), *pace, str(port)],
            CLIENT_CPU,
        )
        return port, pids, "/sub"
    publisher = run.children.start(
        [sys.executable, str(HERE / "proxy.py"), "--publish", "ws", str(shared.path), *pace],
        CLIENT_CPU,
        stdout=subprocess.PIPE,
    )
    upstream = f"ws://127.0.0.1:{int(publisher.stdout.readline())}/"
    if run.server in ("broadcast", "transports"):
        command = [sys.executable, str(HERE / "fanout_peers.py"), run.server, upstream]
        child = run.children.start(command, SERVER_CPU, stdout=subprocess.PIPE)
        return int(child.stdout.readline()), [child.pid], "/"
    if run.server == "node":
        child = run.children.start(
            ["node", str(HERE / "node_ws.js"), upstream], SERVER_CPU, stdout=subprocess.PIPE
        )
        return int(child.stdout.readline()), [child.pid], "/"
    return start_flashctl(run, upstream)


def start_flashctl(run: Run, upstream: str) -> tuple[int, list[int], str]:
    """The product, as an operator runs it: deduplication, replay ring, budgets, limits and metrics on."""
    read, write = os.pipe()
    child = run.children.start(
        [
            sys.executable, "-m", "flashctl", "proxy",
            "--upstream-ws", upstream,
            "--listen-addr", "127.0.0.1:0",
            "--metrics-addr", "127.0.0.1:0",
            "--instance-connection-limit", "0",
            "--per-ip-connection-limit", "20000",
            # A run is shorter than an interval, but pings would be one more frame for the client to count.
            "--no-client-ping",
            "--message-buffer-size", "512",
            "--ready-fd", str(write),
        ],
        SERVER_CPU,
        stderr=subprocess.PIPE,
        pass_fds=[write],
    )  # fmt: skip
    os.close(write)
    os.read(read, 10)
    os.close(read)
    port = 0
    for line in child.stderr:
        if found := re.search(rb"url=ws://[^ ]*:(\d+)/ws", line):
            port = int(found[1])
            break
    os.set_blocking(child.stderr.fileno(), False)
    named = run.encoding != "none" and run.encoding not in EXTENSIONS
    return port, [child.pid], f"/ws?compression={run.encoding}" if named else "/ws"


def start_nchan(run: Run, folder: Path) -> tuple[int, list[int]]:
    """nginx with nchan, one worker."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    deflate = "nchan_deflate_message_for_websocket on;" if run.encoding == "deflate" else ""
    config = folder / "nginx.conf"
    config.write_text(
        f"""load_module {NCHAN};
worker_processes 1; daemon off; master_process on; pid {folder}/nginx.pid; error_log /dev/null crit;
worker_rlimit_nofile 20000;
events {{ worker_connections 16000; }}
http {{ access_log off; nchan_shared_memory_size 256M; client_max_body_size 64M; client_body_buffer_size 1M;
  keepalive_requests 10000000;
  server {{ listen 127.0.0.1:{port} backlog=4096; tcp_nodelay on;
    location = /pub {{ nchan_publisher; nchan_channel_id a; nchan_message_buffer_length 64; {deflate} }}
    location = /sub {{ nchan_subscriber websocket; nchan_channel_id a; nchan_subscriber_first_message newest;
      nchan_websocket_ping_interval 0; }} }} }}
"""
    )
    child = run.children.start(["nginx", "-c", str(config), "-p", str(folder)], SERVER_CPU)
    time.sleep(0.5)
    workers = subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, text=True, check=True)
    return port, [int(pid) for pid in workers.stdout.split()]


def measure(run: Run) -> dict[str, float | int | str]:
    """Do one run."""
    with tempfile.TemporaryDirectory(prefix="fanout-") as name:
        folder = Path(name)
        build(folder)
        shared = Shared(folder / "shared", create=True)
        try:
            port, pids, path = start_server(run, shared, folder)
            time.sleep(0.5)
            before = rss_kib(pids)
            headers = EXTENSIONS.get(run.encoding, [])
            client = run.children.start(
                [
                    str(folder / "load_client"),
                    str(shared.path),
                    "127.0.0.1",
                    str(port),
                    str(run.clients),
                    path,
                    *headers,
                ],
                CLIENT_CPU,
            )
            while shared.words[Shared.CONNECTED] < run.clients:
                if client.poll() is not None:
                    raise SystemExit(f"{run.server}: the load client gave up")
                time.sleep(0.02)
            time.sleep(0.5)
            memory = (rss_kib(pids) - before) / run.clients
            start, begin = usage(pids), time.monotonic()
            shared.words[Shared.GO] = 1
            while not shared.words[Shared.DONE] and time.monotonic() - begin < run.seconds + 15:
                time.sleep(0.02)
            elapsed = time.monotonic() - begin
            end = usage(pids)
            shared.words[Shared.STOP] = 1
            return _result(run, shared, start, end, elapsed, memory)
        finally:
            shared.words[Shared.STOP] = 1
            run.children.end()
            shared.words.release()
            shared.map.close()


def _result(run: Run, shared: Shared, start: Usage, end: Usage, elapsed: float, memory: float) -> dict:
    published = shared.words[Shared.PUBLISHED]
    deliveries = shared.words[Shared.DELIVERIES]
    last = [
        (shared.last_ns(number) - shared.published_ns(number)) / 1e6
        for number in range(published)
        if shared.last_ns(number)
    ]
    last.sort()
    cpu, waiting = end.on_cpu - start.on_cpu, end.waiting - start.waiting
    return {
        "server": run.server,
        "encoding": run.encoding,
        "clients": run.clients,
        "size": run.size,
        "rate": run.rate,
        "published": published,
        "missing": published * run.clients - deliveries,
        "deliveries_per_s": deliveries / elapsed,
        "cpu_s_per_million": cpu / max(1, deliveries) * 1e6,
        "p50_ms": last[len(last) // 2] if last else float("nan"),
        "p99_ms": last[min(len(last) - 1, int(len(last) * 0.99))] if last else float("nan"),
        "kib_per_client": memory,
        "wait_percent": 100 * waiting / max(1e-9, cpu + waiting),
    }


HEAD = (
    f"{'server':9} {'enc':8} {'clients':>7} {'bytes':>6} {'rate':>5} {'deliveries/s':>12} {'CPU-s/M':>8} "
    f"{'p50 ms':>8} {'p99 ms':>8} {'KiB/client':>10} {'missing':>8} {'wait':>5}"
)


def line(result: dict) -> str:
    """One row for people."""
    return (
        f"{result['server']:9} {result['encoding']:8} {result['clients']:7} {result['size']:6} "
        f"{result['rate'] or 'max':>5} {result['deliveries_per_s']:12,.0f} "
        f"{result['cpu_s_per_million']:8.2f} "
        f"{result['p50_ms']:8.2f} {result['p99_ms']:8.2f} {result['kib_per_client']:10.2f} "
        f"{result['missing']:8} {result['wait_percent']:4.0f}%"
    )


@contextmanager
def _files_limit() -> Iterator[None]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def main() -> None:
    """Run the chosen cells."""
    if sys.argv[1:2] == ["--publish"]:
        _, _, kind, path, size, rate, window, seconds, *rest = sys.argv
        shared = Shared(Path(path))
        pace = (int(size), float(rate), int(window), float(seconds))
        import uvloop

        if kind == "ws":
            uvloop.run(publish_ws(shared, *pace))
        else:
            uvloop.run(publish_post(shared, *pace, int(rest[0])))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, action="append")
    parser.add_argument("--size", type=int, action="append")
    parser.add_argument(
        "--rate", type=float, action="append", help="messages a second; 0 = as fast as possible"
    )
    parser.add_argument("--server", action="append", choices=[*SERVERS])
    parser.add_argument("--encoding", choices=["none", *EXTENSIONS, "brotli", "zstd"], default="none")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument(
        "--repeat", type=int, default=1, help="runs of each server, in turns; shows the median"
    )
    parser.add_argument("--window", type=int, default=16, help="at rate 0: messages not yet received by all")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    servers = options.server or [
        name
        for name, present in (
            ("c", True),
            ("flashctl", True),
            ("broadcast", True),
            ("transports", True),
            (
                "nchan",
                shutil.which("nginx") and NCHAN.exists(),
            ),
            ("node", shutil.which("node") and (HERE.parent / "node_modules" / "ws").exists()),
        )
        if present
    ]
    if not options.json:
        print(HEAD, flush=True)
    with _files_limit():
        for rate in options.rate or [5.0, 0.0]:
            for size in options.size or [5000, 50000]:
                for clients in options.clients or [100, 1000, 5000]:
                    _compare(options, servers, rate, size, clients)


def _compare(options: argparse.Namespace, servers: list[str], rate: float, size: int, clients: int) -> None:
    """One row for each server, and flashctl's ratio to the C sender.

    Servers take turns, so that what else the machine does meets all of them; a row is the run with the
    median CPU time.
    """
    results: dict[str, list[dict]] = {
        server: [] for server in servers if server != "c" or options.encoding == "none"
    }
    for _ in range(options.repeat):
        for server, runs in results.items():
            run = Run(server, clients, size, rate, options.seconds, options.window, options.encoding)
            runs.append(measure(run))
    middle = {
        server: sorted(runs, key=lambda result: result["cpu_s_per_million"])[len(runs) // 2]
        for server, runs in results.items()
    }
    for result in middle.values():
        print(json.dumps(result) if options.json else line(result), flush=True)
    if not options.json and "c" in middle and "flashctl" in middle:
        cpu, deliveries = (
            middle["flashctl"][column] / middle["c"][column]
            for column in ("cpu_s_per_million", "deliveries_per_s")
        )
        print(f"{'':9} flashctl / C: CPU {cpu:.2f}, deliveries {deliveries:.2f}", flush=True)


if __name__ == "__main__":
    main()
