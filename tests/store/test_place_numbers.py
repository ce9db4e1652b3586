"""Packs are numbered once each, by name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from blocksnapd.store.layers import PackPlace
from blocksnapd.store.place_numbers import PlaceNumbers
from blocksnapd.store.point_format import PackRef


def place(name: str) -> PackPlace:
    return PackPlace(PackRef(name, 9, "d", 3, "t", 1), "v", 4096, name, 0)


def test_each_name_has_one_number_in_order():
    numbers = PlaceNumbers()
    assert [numbers.number(place(name)) for name in "abcab"] == [0, 1, 2, 0, 1]
    assert [one.ref.name for one in numbers.places] == ["a", "b", "c"]


def test_threads_agree():
    numbers, names = PlaceNumbers(), [f"p{n % 50}" for n in range(2000)]
    with ThreadPoolExecutor(8) as workers:
        found = list(workers.map(lambda name: numbers.number(place(name)), names))
    assert len(numbers.places) == 50
    assert all(numbers.places[n].ref.name == name for n, name in zip(found, names, strict=True))
