"""A chain that was taken away is said, not begun anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashctl.chain.store import DATABASE_NAME, Store, StoreError


def test_an_emptied_database_is_an_error(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    Store.open(tmp_path).close()
    (tmp_path / DATABASE_NAME).write_bytes(b"")
    with pytest.raises(StoreError, match="empty: the chain that was here is lost") as caught:
        Store.open(tmp_path)
    assert caught.value.hint
    with pytest.raises(StoreError, match="is lost"):  # it stays as it is for whoever looks into it
        Store.open(tmp_path)


def test_a_database_that_is_gone_from_beside_its_log_is_an_error(tmp_path: Path) -> None:
    (tmp_path / f"{DATABASE_NAME}-wal").write_bytes(b"\x00" * 64)
    with pytest.raises(StoreError, match="gone, its log is not"):
        Store.open(tmp_path)
