"""The rest of format 1 from FORMAT.md alone: manifests, merged layers, moved packs, patches.

    python -m tests.store.independent_maintenance REPOSITORY RESTORE_KEY POINT_NAME OUTPUT

Restores points whose predecessors have expired; builds on ``independent_reader.py`` beside it.
"""

import struct
import sys
from functools import lru_cache
from pathlib import Path

import msgspec
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.store.independent_reader import Keys, Pack, column, load, need, table, unseal


def manifest(root, keys, volume):
    """§ 12: return the body of the newest generation, None if there is no manifest."""
    names = sorted((root / "m" / volume).glob("*.mf"))
    if not names:
        return None
    name, data = names[-1].relative_to(root).as_posix(), names[-1].read_bytes()
    magic, version, size = struct.unpack("<8sII", data[:16])
    need((magic, version) == (b"BSNMANIF", 1), f"{name} is a manifest")
    context = "blocksnap 1 2026 authentication of manifests"
    tag = blake3(keys.hash, derive_key_context=context).digest()
    need(blake3(data[:-32], key=tag).digest() == data[-32:], f"tag of {name}")
    clear, header = data[: 16 + size], msgspec.msgpack.decode(data[16 : 16 + size])
    info, at = keys.binding("manifest", volume, name), len(clear) + 80
    box = AESGCM(unseal(keys.metadata, info, data[len(clear) : at]))
    packed = box.decrypt(bytes(12), data[at : at + header["body_size"]], info + b"\0" + clear)
    plain = zstandard.ZstdDecompressor().decompress(packed)
    need(len(plain) == header["plain_size"], f"size of {name}")
    return msgspec.msgpack.decode(plain)


class Layer:
    """A layer object: what changed from one point to another."""

    def __init__(self, root, keys, volume, row):
        self.from_seq, self.to_seq, self.name, size, tail_size, tail_digest = row
        self.data = (root / self.name).read_bytes()
        footer = self.data[-136:]
        need(len(self.data) == size, f"size of {self.name}")
        need(blake3(self.data[-tail_size:]).digest() == tail_digest, f"tail of {self.name}")
        need(footer[120:] == struct.pack("<II8s", 1, 136, b"BSNLAYER"), "footer of a layer")
        need(footer[80:96].hex() == keys.repository, "repository of a layer")
        self.binding = lambda kind: keys.binding(kind, volume, self.name)
        self.box = AESGCM(unseal(keys.metadata, self.binding("layer"), footer[:80]))
        parts_size, packs_size, directory_size, _ = struct.unpack("<QQII", footer[96:120])
        at, aad = parts_size + packs_size, self.binding("layer-directory") + footer
        plain = self.box.decrypt(bytes(12), self.data[at : at + directory_size], aad)
        self.directory = msgspec.msgpack.decode(plain)
        self.floor, self.block_size = self.directory["floor"], self.directory["block_size"]
        self.from_digest, self.digest = self.directory["from_digest"], self.directory["to_digest"]
        self.packs = list(self._packs(parts_size))

    def open(self, kind, index, number, low, size):
        aad = self.binding(kind) + b"\0" + str(index).encode()
        nonce = number.to_bytes(12, "little")
        return self.box.decrypt(nonce, self.data[low : low + size], aad)

    def _packs(self, low):
        d, boxes = self.directory, -(-self.directory["packs"] // 1024)
        sizes, plains = column(d["pack_box_sizes"], boxes), column(d["pack_plain_sizes"], boxes)
        for index, (size, plain_size) in enumerate(zip(sizes, plains, strict=True)):
            packed = self.open("layer-packs", index, 1 + d["parts"] + index, low, size)
            found = zstandard.ZstdDecompressor().decompress(packed)
            need(len(found) == plain_size, "size of a pack table")
            t, low = msgspec.msgpack.decode(found), low + size
            n = len(t["names"])
            rows = zip(
                t["names"], t["holders"], column(t["sizes"], n), column(t["offsets"], n),
                [t["digests"][64 * i : 64 * i + 32].hex() for i in range(n)], strict=True,
            )  # fmt: skip
            for name, holder, pack_size, offset, digest in rows:
                yield {"name": name, "holder": holder, "size": pack_size, "offset": offset,
                       "digest": digest}  # fmt: skip

    def apply(self, content):
        """Lay it over ``content``, block → (pack, slot)."""
        low, d = 0, self.directory
        for block in [b for b in content if b >= self.floor]:
            del content[block]
        for index, size in enumerate(column(d["part_sizes"], d["parts"])):
            part = msgspec.msgpack.decode(self.open("layer-part", index, 1 + index, low, size))
            low += size
            lay(content, part["data"], part["zeros"], self.packs)


class Body:
    """A point's own layer: what changed since the point before."""

    def __init__(self, root, keys, name):
        self.header, self.body, self.digest = load(root, keys, name)
        self.name, self.block_size = name, self.header["block_size"]
        self.is_full, self.from_digest = self.header["kind"] == "full", self.header["prev_digest"]

    def apply(self, content):
        end = 0 if self.is_full else -(-self.header["size"] // self.block_size)
        for block in [b for b in content if b >= end]:
            del content[block]
        lay(content, self.body["data"], self.body["zeros"], self.body["packs"])


def lay(content, data, zeros, packs):
    for start, length, _ in table(zeros):
        for block in range(start, start + length):
            content.pop(block, None)
    for start, length, location in table(data):
        for n in range(length):
            content[start + n] = packs[location >> 32], (location & 0xFFFFFFFF) + n


def spans(root, keys, volume, seq, layers):
    """Return layers and bodies, oldest first, that lead to point ``seq``; None: there is no way."""
    if seq == 0:
        return []
    for row in sorted(row for row in layers if row[1] == seq):
        before = spans(root, keys, volume, row[0], layers)
        if before is not None:
            return [*before, Layer(root, keys, volume, row)]
    for path in (root / "v" / volume / "p").glob(f"{seq:016x}-*.pt"):
        body = Body(root, keys, path.relative_to(root).as_posix())
        before = [] if body.is_full else spans(root, keys, volume, seq - 1, layers)
        if before is not None:
            return [*before, body]
    return None


class Moved(Pack):
    """A repacked pack: its blocks by the place where they were first written."""

    def __init__(self, root, keys, volume, ref):
        super().__init__(root, keys, volume, ref)
        self.found, sources = self.index["repacked"], self.index["repacked"]["sources"]
        self.number = column(self.found["numbers"], self.frames)
        self.counts = column(self.found["counts"], self.frames)
        self.boxes = [(self.box, self.aad)]
        for name, seal in sources:
            aad = keys.binding("frame", volume, name)
            self.boxes.append((AESGCM(unseal(keys.data, aad, seal)), aad))
        self.keyed = column(self.found["keys"], self.frames)
        n, at = sum(self.counts), 0
        origins, slots = column(self.found["origins"], n), column(self.found["slots"], n)
        self.at = {}
        for frame, count in enumerate(self.counts):
            for within in range(count):
                self.at[sources[origins[at]][0], slots[at]] = frame, within, at
                at += 1

    def moved_block(self, origin, slot):
        frame, within, at = self.at[origin, slot]
        (box, aad), number = self.boxes[self.keyed[frame]], self.number[frame]
        return self.plain(box, aad, frame, number, self.counts[frame], within, at)


def restore(root, keys, name):
    """Return the image of a point."""
    need(blake3((root / "repo.json").read_bytes()).hexdigest() == keys.digest, "repo.json")
    volume, newest = name.split("/")[1], Body(root, keys, name)
    known = manifest(root, keys, volume) or {"layers": [], "moved": [], "patches": []}
    chain = spans(root, keys, volume, newest.header["seq"], known["layers"])
    need(chain is not None, f"a way to {name}")
    need(chain[-1].digest == newest.digest, f"digest of {name}")
    content, before = {}, None
    for span in chain:
        need(before is None or span.from_digest in ("", before), "digests that meet")
        span.apply(content)
        before = span.digest
    blocks = Blocks(root, keys, volume, known)
    size = newest.block_size
    image = bytearray(-(-newest.header["size"] // size) * size)
    for block, (ref, slot) in content.items():
        image[block * size : (block + 1) * size] = blocks.read(ref, slot)
    return bytes(image[: newest.header["size"]])


class Blocks:
    """Reads blocks by the place where they were first written."""

    def __init__(self, root, keys, volume, known):
        self.patches = known["patches"]
        self.moved = {one["origin"]: one["packs"] for one in known["moved"]}
        self.open = lru_cache(None)(lambda kind, ref: kind(root, keys, volume, dict(ref)))

    def read(self, ref, slot):
        for patch in self.patches:
            if patch["origin"] == ref["name"] and 0 <= slot - patch["slot"] < patch["count"]:
                return self.read(patch["to"], patch["to_slot"] + slot - patch["slot"])
        for one in self.moved.get(ref["name"], ()):
            pack = self.open(Moved, tuple(sorted(one.items())))
            if (ref["name"], slot) in pack.at:
                return pack.moved_block(ref["name"], slot)
        need(ref["name"] not in self.moved, f"a place of slot {slot} of {ref['name']}")
        return self.open(Pack, tuple(sorted(ref.items()))).block(slot)


if __name__ == "__main__":
    opened = Keys(Path(sys.argv[2]).read_text(encoding="utf-8"))
    Path(sys.argv[4]).write_bytes(restore(Path(sys.argv[1]), opened, sys.argv[3]))
