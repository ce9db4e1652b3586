"""Spoils one object of a simulated repository, sees that it is found and named, and mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.errors import BlocksnapError
from tests.sim.world import VOLUME, World, need

if TYPE_CHECKING:
    from blocksnapd.store.repository import Repository


def check(world: World) -> None:
    """Damage a random object of the volume; every point is then right or said to be damaged."""
    rng, objects = world.rng, world.objects.objects
    names = world.objects.list_names(f"v/{VOLUME}/")
    if not names or not world.points:
        return
    name = rng.choice(names)
    whole = objects[name]
    spoiled = _spoil(world, whole)
    if spoiled == whole:
        return
    world.tell(f"  damage: {name} has {'no' if spoiled is None else len(spoiled)} bytes "
               f"of {len(whole)}")  # fmt: skip
    objects.pop(name)
    if spoiled is not None:
        objects[name] = spoiled
    try:
        for point in rng.sample(list(world.points), min(6, len(world.points))):
            _compare(world, point, name)
    finally:
        objects[name] = whole


def _spoil(world: World, data: bytes) -> bytes | None:
    rng = world.rng
    deed = rng.choice(("flip", "flip", "flip", "cut", "grow", "remove", "other"))
    if deed == "flip" and data:
        at = rng.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if deed == "cut":
        return data[: rng.randrange(len(data) + 1)]
    if deed == "grow":
        return data + b"\0"
    if deed == "other":
        return world.objects.objects[rng.choice(sorted(world.objects.objects))]
    return None


def _compare(world: World, point: str, spoiled: str) -> None:
    # What verify says and what reading does must agree; and no wrong byte is ever handed out.
    reader, wanted = world.reader(), world.points[point].image.bytes()
    said = _verify(reader, point)
    found = _read(reader, point)
    need(found is None or found == wanted, f"{point} was read wrong after damage of {spoiled}")
    if found is None:
        need(said, f"{point} cannot be read after damage of {spoiled}, and verify says nothing")
    if said:
        need(spoiled in said, f"damage of {spoiled} was not named: {said}")


def _verify(reader: Repository, point: str) -> str:
    try:
        return " ".join(reader.verify(point).problems)
    except BlocksnapError as error:
        return error.sentences()


def _read(reader: Repository, point: str) -> bytes | None:
    try:
        image = reader.open_image(point)
        found = bytearray(image.size)
        image.read_into(0, memoryview(found))
    except BlocksnapError:
        return None
    return bytes(found)
