"""The quota against one that keeps a list of everything held."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flashctl.core.jsonrpc.address_quota import AddressQuota

ADDRESSES = ("1.1.1.1", "2.2.2.2", "3.3.3.3")
STEPS = st.lists(
    st.tuples(st.booleans(), st.sampled_from(ADDRESSES), st.integers(0, 40), st.integers(1, 3)), max_size=60
)


@given(STEPS, st.booleans())
def test_the_bounds_hold_in_all_and_for_each_address(
    steps: list[tuple[bool, str, int, int]], bounds_bytes: bool
) -> None:
    sizes = {"size": 120, "size_per_address": 60} if bounds_bytes else {}
    quota = AddressQuota(8, 4, **sizes)
    held: dict[str, list[int]] = {address: [] for address in ADDRESSES}
    for takes, address, size, items in steps:
        own = held[address]
        everything = [each for sizes_of_one in held.values() for each in sizes_of_one]
        if takes:
            fits = len(everything) < 8 and len(own) < 4
            if bounds_bytes:
                fits = fits and sum(everything) + size <= 120 and sum(own) + size <= 60
            assert quota.take(address, size) is fits
            if fits:
                own.append(size)
        elif len(own) >= items:
            gone = [own.pop() for _ in range(items)]
            quota.give_back(address, sum(gone), items=items)
    for address, own in held.items():
        if own:
            quota.give_back(address, sum(own), items=len(own))
    assert not quota._items_of and not quota._size_of, "what holds nothing is forgotten"
    assert quota.take(ADDRESSES[0], 60)
