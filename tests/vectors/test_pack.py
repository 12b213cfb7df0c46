"""The pack is what its manifest says, small enough to commit, and what its script makes."""

from __future__ import annotations

import hashlib
import json
import random

import pytest
from support.npm import require_node
from support.vectors import PACK, load, manifest, packed_digest
from vectors.packing import Json, as_read

MOST_BYTES = 10 * 1024 * 1024
SAMPLE = 12
SEED = 20_261_130


def test_the_pack_stays_small() -> None:
    assert sum(path.stat().st_size for path in PACK.iterdir()) <= MOST_BYTES


def test_every_file_is_in_the_manifest() -> None:
    assert {path.name.removesuffix(".jsonl.xz") for path in PACK.glob("*.xz")} == set(manifest())


@pytest.mark.parametrize("kind", manifest())
def test_digests_hold(kind: str) -> None:
    entry, cases = manifest()[kind], load(kind)
    content = b"".join(
        json.dumps(case, sort_keys=True, separators=(",", ":")).encode() + b"\n" for case in cases
    )
    assert packed_digest(kind) == entry["sha256"]
    assert hashlib.sha256(content).hexdigest() == entry["content_sha256"]
    assert (len(cases), (PACK / f"{kind}.jsonl.xz").stat().st_size) == (entry["cases"], entry["bytes"])


def sample(kind: str) -> list[Json]:
    """A few cases of a kind, the same ones every time, as the file has them."""
    return random.Random(SEED).sample(load(kind), min(SAMPLE, len(load(kind))))


def without_answer(case: Json) -> Json:
    return {name: value for name, value in case.items() if name not in ("outcomes", "root")}


def test_questions_to_eels_are_those_of_the_script() -> None:
    """The programs of some families did not change since the pack was made."""
    from vectors.state import FAMILIES, questions

    families = random.Random(SEED).sample(sorted(FAMILIES), 5)
    asked = [without_answer(case) for case in load("state") if case["family"] in families]
    made = list(questions(name for name in FAMILIES if name in families))
    assert sorted(case["name"] for case in asked) == sorted(case["name"] for case in made)
    assert all(one == other for one, other in zip(asked, made, strict=True))


def test_eels_answers_as_the_pack_says() -> None:
    from vectors.state import answered

    chosen = sample("state")
    assert list(answered([without_answer(case) for case in chosen])) == chosen


def test_signers_sign_as_the_pack_says() -> None:
    from vectors.transactions import answered, questions

    require_node("ethers", "viem")
    asked = list(questions())
    places = random.Random(SEED).sample(range(len(asked)), 40)
    assert answered([asked[place] for place in places]) == [load("transactions")[place] for place in places]


def test_codec_of_eels_is_as_the_pack_says() -> None:
    from vectors.codec import answered, questions

    asked = list(questions())
    places = random.Random(SEED).sample(range(len(asked)), 40)
    assert answered([asked[place] for place in places]) == [load("codec")[place] for place in places]


def test_blocks_and_sequences_are_made_again() -> None:
    from vectors import blocks, flashblocks

    for kind in (blocks.kind(), flashblocks.kind()):
        assert [as_read(case) for case in kind.cases] == list(load(kind.name))
