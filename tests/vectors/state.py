"""State tests: every family of `state_families` on every fork, what came of it by EELS."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from support.eels import Oracle, oracle_python
from vectors.oracles import eels_version
from vectors.packing import Json, Kind, as_read
from vectors.state_families import FAMILIES, FORKS

__all__ = ["answered", "kind", "questions"]


def questions(families: Iterable[str] = FAMILIES) -> Iterator[Json]:
    """Every case without its answer, families together so that the forks' almost equal copies pack well."""
    for family in families:
        programs = FAMILIES[family]
        by_fork = {fork: dict(programs(fork)) for fork in FORKS}
        for name in dict.fromkeys(name for cases in by_fork.values() for name in cases):
            for cases in by_fork.values():
                if name in cases:
                    yield as_read({"family": family, "name": name} | cases[name])


def answered(asked: list[Json]) -> Iterator[Json]:
    """Cases with what EELS makes of them: each transaction's outcome, and the state root at the end."""
    with Oracle(oracle_python()) as oracle:
        for case in asked:
            oracle.ask(case)
            answer = oracle.answer()
            yield case | {"outcomes": answer["outcomes"], "root": answer["root"]}


def kind() -> Kind:
    """The file of the pack."""
    about = "transactions on small states, by family and fork: outcomes, logs, gas and the state root"
    return Kind("state", about, answered(list(questions())), eels_version())
