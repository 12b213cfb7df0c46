"""`flashctl builder` as an operator meets it: bad settings are one line and the right exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.builders import builder_config

from flashctl.builder.config import BuilderConfig, ChainDataConfig
from flashctl.builder.mempool.pool import PoolLimits
from flashctl.builder.service import BuilderService
from flashctl.chain.genesis import devnet_genesis
from flashctl.cli.app import main
from flashctl.errors import ExitCode


def ports() -> list[str]:
    return ["--http.port", "0", "--authrpc.port", "0", "--flashblocks.port", "0"]


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--flashblocks.dialect", "ssz"], ExitCode.USAGE, "'ssz' is not one of op-rbuilder, base"),
        (["--flashblocks.block-time", "3000"], ExitCode.USAGE, "exceeds the block time"),
        (["--flashblocks.block-time", "0"], ExitCode.USAGE, "is not positive"),
        (["--flashblocks.end-buffer-ms", "2000"], ExitCode.USAGE, "does not fit the block time"),
        (["--metrics", "9090:"], ExitCode.USAGE, "is not HOST:PORT"),
        (["--payload-version", "256"], ExitCode.USAGE, "is not a byte"),
        (["--builder.max-tx-time", "0"], ExitCode.USAGE, "must be positive"),
        (["--sync-rpc", "ftp://peer"], ExitCode.USAGE, "ftp"),
        (["--txpool.lifetime", "soon"], ExitCode.USAGE, "--txpool.lifetime: 'soon' is not a duration"),
        (["--genesis", "{folder}/absent.json"], ExitCode.IO, "absent.json"),
        (["--genesis", "{folder}/text.json"], ExitCode.DATA, "text.json"),
        (["--authrpc.jwtsecret", "{folder}/text.json"], ExitCode.USAGE, "JWT key"),
        (["--datadir", "{folder}/text.json"], ExitCode.IO, "text.json"),
        (["--genesis", "{folder}/other.json", "--datadir", "{folder}/chain"], None, "genesis"),
    ],
)
def test_bad_settings_are_one_line(
    flags: list[str],
    code: ExitCode | None,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "text.json").write_text("not a genesis")
    (tmp_path / "other.json").write_text(json.dumps(devnet_genesis(timestamp=5)))
    if code is None:
        keep_chain_of_another_genesis(tmp_path)
    arguments = [flag.format(folder=tmp_path) for flag in flags]
    result = main(["builder", *ports(), *arguments])
    error = capsys.readouterr().err
    assert result == code if code is not None else result != 0
    assert words in error
    assert "Traceback" not in error
    assert len([line for line in error.splitlines() if line.startswith("flashctl: error:")]) == 1


def test_the_pools_limits_have_the_names_of_geth_and_reth(monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[BuilderConfig] = []

    def run(config: BuilderConfig, ready_fd: int | None) -> ExitCode:
        configs.append(config)
        return ExitCode.OK

    monkeypatch.setattr("flashctl.builder.service.run", run)
    geth = ["--txpool.globalslots", "500", "--txpool.globalqueue", "50", "--txpool.accountqueue", "5"]
    assert main(["builder", *geth, "--txpool.lifetime", "3h0m0s", "--txpool.pricebump", "20"]) == ExitCode.OK
    reth = ["--txpool.pending-max-count", "500", "--txpool.queued-max-count", "50"]
    assert main(["builder", *reth, "--txpool.lifetime", "10800", "--rollup.disable-tx-pool-gossip"]) == 0
    assert main(["builder"]) == ExitCode.OK
    first, second, default = (config.mempool.limits for config in configs)
    assert first == PoolLimits(
        500, queued=50, queued_per_sender=5, queued_lifetime_s=10_800, price_bump_percent=20
    )
    assert second == PoolLimits(500, queued=50, queued_lifetime_s=10_800)
    assert default == PoolLimits()
    assert [config.peers.reads_peer_pool for config in configs] == [True, False, True]


def keep_chain_of_another_genesis(folder: Path) -> None:
    genesis = folder / "genesis.json"
    genesis.write_text(json.dumps(devnet_genesis(timestamp=6)))
    service = BuilderService(builder_config(folder, "chain"))
    service.chain.close()


def test_the_devnet_genesis_is_kept_beside_the_chain(tmp_path: Path) -> None:
    config: BuilderConfig = builder_config(
        tmp_path, "chain", chain=ChainDataConfig(datadir=tmp_path / "chain")
    )
    first = BuilderService(config)
    first.chain.close()
    again = BuilderService(config)
    again.chain.close()
    assert first.chain.genesis.hash == again.chain.genesis.hash
    assert (tmp_path / "chain" / "genesis.json").exists()
