"""What each role may do: a table of verbs and names, allowed and refused."""

from __future__ import annotations

import pytest

from blocksnapd.errors import RepositoryFormatError, StoreRefusedError
from blocksnapd.receive.caller import (
    Caller,
    caller_named,
    check,
    check_point_read,
    identity_uri,
    shown,
)
from blocksnapd.store.names import point_name

SOURCE, READER = Caller("db01", "source"), Caller("db01", "reader")
POINT = point_name("vol", 7, "p" + "7" * 16)
PACK = "v/vol/d/20261123/p" + "7" * 16 + "-0001-0123abcd.pk"
REPACKED = PACK.replace("/p7", "/r7")
LAYER = f"v/vol/l/{1:016x}-{4:016x}-0123abcd.ly"
MANIFEST = f"m/vol/{1:016x}.mf"
LIST, DONE = f"g/vol/{1:016x}.cond", f"g/vol/{1:016x}.done"
BAD, HEALED, OK = (f"t/vol/202611/{1:016x}-0123abcd.{kind}" for kind in ("bad", "healed", "ok"))


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        ("put", "repo.json"), ("put", POINT), ("put", PACK),
        ("get", "repo.json"), ("get", POINT), ("get", LIST), ("get", DONE),
        ("get", BAD), ("get", HEALED), ("facts", POINT), ("facts", BAD),
        ("names", "v/vol/p/"), ("names", "g/vol/"), ("names", "t/vol/"),
        ("settle", "v/vol/p/"), ("settle", "v/vol/d/"), ("settle", "g/vol/"),
        ("locks", "v/vol/"), ("room", ""),
    ],
)  # fmt: skip
def test_a_source_has_what_it_needs_to_go_on(verb, name):
    check(SOURCE, verb, name)


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        ("delete", POINT), ("delete", PACK), ("delete", "repo.json"),
        ("put", REPACKED), ("put", LAYER), ("put", MANIFEST), ("put", LIST), ("put", BAD),
        ("put", "v/vol/p/other"), ("put", "top"), ("put", "v/vol/d/20261123/x.pk"),
        ("get", PACK), ("get", LAYER), ("get", MANIFEST), ("get", OK), ("facts", PACK),
        ("names", "v/vol/"), ("names", "v/vol/d/"), ("names", "m/vol/"), ("names", "v/"),
        ("children", "v/"), ("children", "v/vol/p/"), ("settle", "m/vol/"), ("settle", "v/"),
        ("locks", "v/"), ("locks", "v/vol/p/"), ("locks", "m/vol/"), ("names", "v/vol/p"),
    ],
)  # fmt: skip
def test_a_source_has_nothing_else(verb, name):
    with pytest.raises(StoreRefusedError, match="a source of host db01 may not"):
        check(SOURCE, verb, name)


@pytest.mark.parametrize("name", [POINT, PACK, LAYER, MANIFEST, OK, "repo.json"])
def test_a_reader_reads_everything_and_changes_nothing(name):
    check(READER, "get", name)
    check(READER, "facts", name)
    check(READER, "names", "v/")
    check(READER, "children", "v/")
    for verb in ("put", "delete"):
        with pytest.raises(StoreRefusedError, match="a reader of host db01 may not"):
            check(READER, verb, name)
    with pytest.raises(StoreRefusedError):
        check(READER, "locks", "v/vol/")


@pytest.mark.parametrize("role", ["source", "reader", "maintainer"])
@pytest.mark.parametrize("name", ["../db02/repo.json", "/etc/passwd", "v/.tmp/x", "", "v//p"])
def test_names_that_lead_elsewhere_are_refused(role, name):
    for verb in ("put", "get", "facts", "delete"):
        with pytest.raises(RepositoryFormatError, match="cannot be the name"):
            check(Caller("db01", role), verb, name)
    for verb in ("names", "children", "settle", "locks"):
        with pytest.raises((RepositoryFormatError, StoreRefusedError)):
            check(Caller("db01", role), verb, f"{name}/")


def names_of(*seqs: int) -> list[str]:
    return [point_name("vol", seq, f"p{seq:016x}") for seq in seqs]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000])
def test_a_source_knows_its_newest_two_points_only(count):
    names = names_of(*range(1, count + 1))
    assert shown(SOURCE, [*names, "v/vol/p/odd"]) == names[-2:]
    assert shown(READER, [*names, "v/vol/p/odd"]) == [*names, "v/vol/p/odd"]
    for name in names:
        if name in names[-2:]:
            check_point_read(SOURCE, "get", name, names)
        else:
            with pytest.raises(StoreRefusedError):
                check_point_read(SOURCE, "get", name, names)
        check_point_read(READER, "get", name, names)


def test_a_fork_at_the_newest_place_is_shown():
    fork = point_name("vol", 9, "p" + "f" * 16)
    assert shown(SOURCE, [*names_of(7, 8, 9), fork]) == [*names_of(8, 9), fork]


def test_a_source_sees_damage_and_no_other_records():
    assert shown(SOURCE, [BAD, HEALED, OK]) == [BAD, HEALED]


@pytest.mark.parametrize("role", ["source", "reader", "maintainer"])
def test_a_certificate_names_its_holder(role):
    caller = Caller("db-01.example", role)
    assert caller_named(["https://example.org", identity_uri(caller)]) == caller


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["blocksnap:source:"],
        ["blocksnap:root:db01"],
        ["blocksnap:source:../db02"],
        ["blocksnap:source:.hidden"],
        ["blocksnap:source:a/b"],
        ["blocksnap:source:db01", "blocksnap:reader:db01"],
        ["xblocksnap:source:db01"],
    ],
)
def test_a_certificate_that_names_none_or_several_lets_nobody_in(uris):
    with pytest.raises(StoreRefusedError, match="which host"):
        caller_named(uris)
