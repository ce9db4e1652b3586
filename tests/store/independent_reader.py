"""A reader of format 1 written from FORMAT.md alone; it imports nothing of blocksnapd.

python independent_reader.py REPOSITORY RESTORE_KEY POINT_NAME OUTPUT
"""

import json
import struct
import sys
from itertools import accumulate
from pathlib import Path

import msgspec
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
CONTEXT = "blocksnap 1 2026 authentication of points"


def need(truth, what):
    if not truth:
        raise SystemExit(f"refused: {what}")


class Keys:  # § 3
    def __init__(self, text, passphrase=None):
        key = json.loads(text)
        self.repository, self.digest = key["repository_id"], key["repository_digest"]
        names = ("hash_key", "metadata_private", "data_private")
        if "sealed" in key:
            s = key["sealed"]
            kdf = Argon2id(salt=bytes.fromhex(s["salt"]), length=32, iterations=s["iterations"],
                           lanes=s["lanes"], memory_cost=s["memory_kib"])  # fmt: skip
            aad = b"blocksnap 1 restore.key " + self.repository.encode()
            box = AESGCM(kdf.derive(passphrase.encode()))
            plain = box.decrypt(bytes(12), bytes.fromhex(s["box"]), aad)
            key |= {name: plain[32 * n : 32 * n + 32].hex() for n, name in enumerate(names)}
        self.hash, self.metadata, self.data = (bytes.fromhex(key[name]) for name in names)

    def binding(self, kind, volume, name):
        return f"blocksnap 1\x00{kind}\x00{self.repository}\x00{volume}\x00{name}".encode()


def unseal(private, info, sealed):
    return SUITE.decrypt(sealed, X25519PrivateKey.from_private_bytes(private), info=info)


def column(data, n):  # § 5
    width = data[0]
    planes = zstandard.ZstdDecompressor().decompress(data[1:]) if width * n else b""
    need(len(planes) == width * n, "size of a column")
    return [sum(planes[i * n + j] << (8 * i) for i in range(width)) for j in range(n)]


def table(parts):
    """Yield (start, length, location)."""
    for part in parts:
        n = part["n"]
        gaps, lengths = column(part["gaps"], n), column(part["lengths"], n)
        moves = column(part["locations"], n) if part.get("locations") else [0] * n
        start, location = part["first"], 0
        for gap, length, move in zip(gaps, lengths, moves, strict=True):
            start, length = start + gap, length + 1
            location += move >> 1 if move % 2 == 0 else -(move + 1 >> 1)
            yield start, length, location
            start, location = start + length, location + length


class Pack:  # § 6
    def __init__(self, root, keys, volume, ref):
        at, holder = ref.get("offset", 0), ref.get("holder") or ref["name"]
        data = (root / holder).read_bytes()[at : at + ref["size"]]
        need(len(data) == ref["size"], "size of a pack")
        need(blake3(data).hexdigest() == ref["digest"], f"digest of {ref['name']}")
        footer = data[-228:]
        numbers = struct.unpack("<QIIIII", footer[176:204])
        low, size, self.blocks, self.frames, self.size, self.each = numbers
        need(footer[212:] == struct.pack("<II8s", 1, 228, b"BSNPPACK"), "footer")
        need(footer[160:176].hex() == keys.repository, "repository of a pack")
        info = keys.binding("pack-index", volume, ref["name"])
        box = AESGCM(unseal(keys.metadata, info, footer[80:160]))
        plain = box.decrypt(bytes(12), data[low : low + size], info + footer)
        self.index, self.data, self.keys = msgspec.msgpack.decode(plain), data, keys
        self.aad = keys.binding("frame", volume, ref["name"])
        self.box = AESGCM(unseal(keys.data, self.aad, footer[:80]))
        self.offsets = [0, *accumulate(column(self.index["frame_sizes"], self.frames))]

    def block(self, slot):
        frame, within = divmod(slot, self.each)
        count = min(self.each, self.blocks - frame * self.each)
        return self.plain(self.box, self.aad, frame, frame, count, within, slot)

    def plain(self, box, aad, frame, number, count, within, at):
        sealed = self.data[self.offsets[frame] : self.offsets[frame + 1]]
        plain = box.decrypt(number.to_bytes(12, "little"), sealed, aad + b"\0%d" % number)
        if len(plain) != count * self.size:
            plain = zstandard.ZstdDecompressor().decompress(plain)
        block = plain[within * self.size : (within + 1) * self.size]
        identity = self.index["identities"][16 * at : 16 * at + 16]
        need(identity == blake3(block, key=self.keys.hash).digest()[:16], "identity of a block")
        return block


def load(root, keys, name):
    """§ 7: return header, body and digest."""
    data = (root / name).read_bytes()
    *kind, size = struct.unpack("<8sII", data[:16])
    need(kind == [b"BSNPOINT", 1], f"{name} is a point")
    tag = blake3(keys.hash, derive_key_context=CONTEXT).digest()
    need(blake3(data[:-32], key=tag).digest() == data[-32:], f"tag of {name}")
    clear, header = data[: 16 + size], msgspec.msgpack.decode(data[16 : 16 + size])
    info, at = keys.binding("point", header["volume_id"], name), len(clear) + 80
    box = AESGCM(unseal(keys.metadata, info, data[len(clear) : at]))
    end = at + header["body_size"]
    body = msgspec.msgpack.decode(box.decrypt(bytes(12), data[at:end], info + b"\0" + clear))
    if header["inline_size"]:
        body["packs"][-1] |= {"holder": name, "offset": end}
    return header, body, blake3(data).hexdigest()


def restore(root, keys, name):
    """Return the image of a point."""
    need(blake3((root / "repo.json").read_bytes()).hexdigest() == keys.digest, "repo.json")
    chain, digest, image = [], None, bytearray()
    while not chain or chain[-1][0]["kind"] != "full":
        *point, found = load(root, keys, name)
        need(digest in (None, found), f"digest of {name}")
        chain.append(point)
        name, digest = point[0]["prev_name"], point[0]["prev_digest"]
    for header, body in reversed(chain):
        volume, size = header["volume_id"], header["block_size"]
        image[header["size"] :] = b""
        image += bytes(-(-header["size"] // size) * size - len(image))
        packs = [Pack(root, keys, volume, ref) for ref in body["packs"]]
        for start, length, _ in table(body["zeros"]):
            image[start * size : (start + length) * size] = bytes(length * size)
        for start, length, location in table(body["data"]):
            for n in range(length):
                block = packs[location >> 32].block((location & 0xFFFFFFFF) + n)
                image[(start + n) * size : (start + n + 1) * size] = block
    return bytes(image[: chain[0][0]["size"]])


if __name__ == "__main__":
    opened = Keys(Path(sys.argv[2]).read_text(encoding="utf-8"))
    Path(sys.argv[4]).write_bytes(restore(Path(sys.argv[1]), opened, sys.argv[3]))
