"""Guest: a volume group, a mounted XFS, a snapshot of it: the basis of everything else."""

import json

from tests.lab.guest import kit


def main() -> None:
    kit.make_vg("vg", "/dev/ubda")
    origin = kit.make_lv("vg", "root", 320 * kit.MIB)
    kit.make_fs("xfs", origin, kit.MOUNT)
    (kit.MOUNT / "file").write_text("content")
    pv = kit.add_cow_space("vg", "/dev/ubdb", 400 * kit.MIB, kit.MOUNT.parent / "snap")
    kit.make_snapshot("vg", "root", "s0", 330 * kit.MIB, 4 * kit.KIB, pv)
    report = json.loads(kit.run("lvs", "--reportformat", "json", "-o", "lv_name,lv_attr", "vg"))
    kit.tell(
        "volumes", attributes={lv["lv_name"]: lv["lv_attr"] for lv in report["report"][0]["lv"]}
    )
    kit.tell("status", status=kit.snapshot_status("vg-s0"))


main()
