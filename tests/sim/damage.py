"""Spoils one object of a simulated repository, sees that it is found and named, and mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocksnapd.errors import BlocksnapError
from blocksnapd.maintain.verify_levels import VolumeVerifier
from tests.sim.world import VOLUME, World, need

if TYPE_CHECKING:
    from blocksnapd.maintain.verify_levels import VolumeCheck

POINTS = 6


def check(world: World) -> None:
    """Damage a random object of the volume; every point is then right or said to be damaged."""
    rng, objects = world.rng, world.objects.objects
    names = [n for n in world.objects.list_names("") if f"/{VOLUME}/" in n]
    if not names or not world.points:
        return
    name = rng.choice(names)
    whole = objects[name]
    spoiled = _spoil(world, whole)
    if spoiled == whole:
        return
    size = "no" if spoiled is None else len(spoiled)
    world.tell(f"  damage: {name} has {size} bytes of {len(whole)}")
    objects.pop(name)
    if spoiled is not None:
        objects[name] = spoiled
    try:
        _look(world, name)
    finally:
        objects[name] = whole


def rot(world: World) -> None:
    """Damage an object of the volume to stay so, until healing leads around it."""
    rng, objects = world.rng, world.objects.objects
    # What is lost of manifests and lists of collections stops maintenance, or writers, aloud.
    names = [n for n in world.objects.list_names("") if f"/{VOLUME}/" in n and n[0] not in "gm"]
    newest = world.newest.point.name if world.newest else ""
    # Nobody has seen what the unknown are; and that the newest is gone only its source can tell.
    names = [n for n in names if n not in world.unknown and n != newest]
    if not names:
        return
    name = rng.choice(names)
    spoiled = _spoil(world, objects[name])
    world.tell(f"  rot: {name}")
    world.rotten.add(name)
    if spoiled is None:
        del objects[name]
    else:
        objects[name] = spoiled


def verified(world: World) -> VolumeCheck:
    """Return what verification says of everything, every byte of packs read."""
    verifier = VolumeVerifier(world.place.process(), world.keys, VOLUME)
    found = verifier.structure()
    verifier.data(found, found.packs)
    return found


def _look(world: World, spoiled: str) -> None:
    # What verification says and what reading does must agree; no wrong byte is ever handed out.
    found = verified(world)
    said = {point.name: point for point in found.points}
    told = " ".join(found.told())
    for name in world.rng.sample(list(world.points), min(POINTS, len(world.points))):
        wanted = world.points[name].image.bytes()
        content = read(world, name)
        need(content in (None, wanted), f"{name} was read wrong after damage of {spoiled}")
        is_whole = name in said and said[name].is_whole and said[name].is_known
        if content is None and name not in said:
            # Nobody but the source knows of a newest point that is gone; it remembers.
            is_newest = name == list(world.points)[-1]
            need(is_newest or name in told, f"{name} is gone, and verification passes over it")
        elif content is None:
            need(not is_whole, f"{name} cannot be read, and verification calls it whole: {told}")
            need(spoiled in told, f"{name} cannot be read and {spoiled} was not named: {told}")
        elif not is_whole:
            # Reading may still find its way through what expired; blocks it cannot find new ones.
            need("/d/" not in spoiled, f"{name} can be read and is said to be damaged: {told}")
            need(spoiled in told, f"{name} is said to be damaged, and {spoiled} not named: {told}")


def read(world: World, point: str) -> bytes | None:
    """Return what a point holds, None if it cannot be read."""
    try:
        image = world.reader().open_image(point)
        found = bytearray(image.size)
        image.read_into(0, memoryview(found))
    except BlocksnapError:
        return None
    return bytes(found)


def _spoil(world: World, data: bytes) -> bytes | None:
    rng = world.rng
    deed = rng.choice(("flip", "flip", "flip", "cut", "grow", "remove", "other"))
    if deed == "flip" and data:
        at = int(rng.random() * len(data))  # sizes of sealed objects vary a little
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if deed == "cut":
        return data[: int(rng.random() * (len(data) + 1))]
    if deed == "grow":
        return data + b"\0"
    if deed == "other":
        return world.objects.objects[rng.choice(sorted(world.objects.objects))]
    return None
