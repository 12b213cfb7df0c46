"""The one bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from threading import Thread

from hypothesis import given
from hypothesis import strategies as st

from flashctl.lru import Lru


def test_what_was_used_last_stays() -> None:
    lru = Lru[str, int](2)
    lru.put("a", 1)
    lru.put("b", 2)
    assert lru.get("a") == 1
    lru.put("c", 3)
    assert list(lru) == ["a", "c"]
    assert lru.get("b") is None


def test_to_peek_is_no_use() -> None:
    lru = Lru[str, int](2)
    lru.put("a", 1)
    lru.put("b", 2)
    assert lru.peek("a") == 1
    lru.put("c", 3)
    assert lru.items() == [("b", 2), ("c", 3)]
    assert lru.oldest == ("b", 2)


def test_evictions_are_reported_and_removals_are_not() -> None:
    gone: list[tuple[str, int]] = []
    lru = Lru[str, int](1, on_evicted=lambda key, value: gone.append((key, value)))
    lru.put("a", 1)
    assert lru.pop("a") == 1
    lru.put("b", 2)
    lru.put("b", 3)
    lru.put("c", 4)
    lru.clear()
    assert gone == [("b", 3)]
    assert lru.oldest is None


def test_an_entry_heavier_than_all_room_is_held_alone() -> None:
    lru = Lru[str, bytes](10, weigh=len)
    lru.put("a", bytes(4))
    lru.put("b", bytes(4))
    lru.put("c", bytes(40))
    assert (list(lru), lru.weight) == (["c"], 40)
    lru.put("d", bytes(1))
    assert (list(lru), lru.weight) == (["d"], 1)


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from(["get", "peek", "put", "pop", "obtain"]), st.integers(0, 7))),
)
def test_it_is_an_ordered_dict_that_forgets(capacity: int, calls: list[tuple[str, int]]) -> None:
    lru, model = Lru[int, int](capacity), OrderedDict[int, int]()
    for turn, (name, key) in enumerate(calls, start=1):
        match name:
            case "put":
                lru.put(key, turn)
                model[key] = turn
                model.move_to_end(key)
            case "get":
                assert lru.get(key) == model.get(key)
                if key in model:
                    model.move_to_end(key)
            case "obtain":
                assert lru.obtain(key, lambda turn=turn: turn) == model.setdefault(key, turn)
                model.move_to_end(key)
            case "peek":
                assert lru.peek(key) == model.get(key)
            case "pop":
                assert lru.pop(key) == model.pop(key, None)
        while len(model) > capacity:
            model.popitem(last=False)
        assert lru.items() == list(model.items())


def test_threads_may_share_one() -> None:
    lru = Lru[int, bytes](64, weigh=len)
    failures: list[BaseException] = []

    def work(start: int) -> None:
        try:
            for turn in range(3000):
                key = (start * 7 + turn) % 40
                if lru.get(key) is None:
                    lru.put(key, bytes(key % 5 + 1))
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert lru.weight == sum(len(value) for value in lru.values()) <= 64
