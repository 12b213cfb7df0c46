"""What is installed: the wheel, built from this checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SHARE = "flashctl-0.1.0.data/data/share"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The contents of the wheel by name."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=REPOSITORY, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("flashctl/py.typed", "flashctl/py.typed"),
        ("flashctl-0.1.0.dist-info/licenses/LICENSE", "LICENSE"),
        (f"{SHARE}/bash-completion/completions/flashctl", "completions/flashctl.bash"),
        (f"{SHARE}/zsh/site-functions/_flashctl", "completions/_flashctl"),
        (f"{SHARE}/fish/vendor_completions.d/flashctl.fish", "completions/flashctl.fish"),
    ],
)
def test_types_completions_and_the_licence_are_in_it(wheel: dict[str, bytes], name: str, source: str) -> None:
    assert wheel[name] == (REPOSITORY / source).read_bytes()


def test_all_of_the_package_is_in_it_and_nothing_else(wheel: dict[str, bytes]) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "flashctl"], cwd=REPOSITORY, capture_output=True, text=True
    ).stdout.split()
    if not tracked:
        pytest.skip("not a checkout of git")
    profiles = {f"flashctl/profiles/{path.name}" for path in (REPOSITORY / "profiles").glob("*.toml")}
    installed = {name for name in wheel if name.startswith("flashctl/")}
    assert installed - profiles == {name for name in tracked if (REPOSITORY / name).exists()}
    assert profiles <= installed
