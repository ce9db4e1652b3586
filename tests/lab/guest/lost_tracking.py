"""Guest: a snapshot that overflowed and one that keeps its table in memory only; what do we say?"""

from blocksnapd.errors import CowFormatError
from blocksnapd.parse.cow_device import CowDevice
from tests.lab.guest import kit

CHUNK_SIZE = 4 * kit.KIB
ORIGIN_SIZE = 64 * kit.MIB


def refusal(cow_path: str) -> str:
    """Return the name of the error that reading the table of ``cow_path`` ends with."""
    try:
        with CowDevice(cow_path) as cow:
            cow.table(origin_size=ORIGIN_SIZE)
    except CowFormatError as error:
        return type(error).__name__
    return "none"


def overflow(origin: str, pv: str) -> None:
    kit.make_snapshot("vg", "root", "small", 8 * kit.MIB, CHUNK_SIZE, pv)
    with CowDevice("/dev/mapper/vg-small-cow") as held:
        kit.write_chunks(origin, 0, 100, CHUNK_SIZE)
        held.check_valid()
        kit.write_chunks(origin, 0, 4000, CHUNK_SIZE)
        try:
            held.check_valid()
            noticed = "none"
        except CowFormatError as error:
            noticed = type(error).__name__
    kit.tell(
        "overflow",
        kernel=kit.run("dmsetup", "status", "vg-small").split()[3],
        refusal=refusal("/dev/mapper/vg-small-cow"),
        noticed=noticed,
    )
    kit.run("lvremove", "-y", "vg/small")


def transient(origin: str) -> None:
    """Make a snapshot without a table on disk: lvm2 never does, dmsetup can."""
    sectors = ORIGIN_SIZE // 512
    store = kit.make_lv("vg", "store", 32 * kit.MIB)
    kit.run("dmsetup", "create", "base", "--table", f"0 {sectors} linear {origin} 0")
    kit.run(
        "dmsetup", "create", "forgetful", "--table",
        f"0 {sectors} snapshot /dev/mapper/base {store} N {CHUNK_SIZE // 512}",
    )  # fmt: skip
    kit.write_chunks("/dev/mapper/forgetful", 0, 64, CHUNK_SIZE)
    kit.tell("transient", status=kit.snapshot_status("forgetful"), refusal=refusal(store))


def main() -> None:
    kit.make_vg("vg", "/dev/ubda")
    origin = kit.make_lv("vg", "root", ORIGIN_SIZE)
    pv = kit.add_cow_space("vg", "/dev/ubdb", 100 * kit.MIB, kit.MOUNT)
    overflow(origin, pv)
    transient(origin)


main()
