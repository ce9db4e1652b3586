"""Configuration: the samples are right, and each mistake is told with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocksnapd.config import Config, Cow, Listen, Retry, Volume, load
from blocksnapd.errors import ConfigError
from blocksnapd.pace import Limit, Traffic
from blocksnapd.packing import FAST, PACKING_DEFAULT, SMALL, Packing
from blocksnapd.units import GIB, Amount

EXAMPLES = Path(__file__).parent.parent / "packaging" / "examples"

GOOD = """schema = 1
[target.near]
url = "/srv/blocksnap"
source_key = "/etc/blocksnap/near.key"
[cow.spare]
file = "/mnt/spare/x.img"
vg = "vg0"
[defaults]
rpo = "10m"
cow = { chunk = "16 KiB" }
[volume."vg0/home"]
"""


def read(folder: Path, text: str, **parts: str) -> Config:
    (folder / "b.toml").write_text(text)
    for name, part in parts.items():
        (folder / "conf.d").mkdir(exist_ok=True)
        (folder / "conf.d" / f"{name}.toml").write_text(part)
    return load(str(folder / "b.toml"))


def complaint(folder: Path, text: str, **parts: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, text, **parts)
    assert caught.value.exit_code == 78
    assert caught.value.effect
    return caught.value.message.replace(f"{folder}/", "")


@pytest.mark.parametrize("sample", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_sample_is_right(sample: Path) -> None:
    assert load(str(sample)).volumes


def test_how_to_behave_on_the_way_to_a_target(tmp_path: Path) -> None:
    said = GOOD.replace(
        "[cow.spare]",
        """stall_timeout = "30s"
bandwidth = [{ limit = "200 MiB/s" }, { when = "Mon..Fri 08:00-18:00", limit = "40 MiB/s" }]
[cow.spare]""",
    )
    traffic = read(tmp_path, said).targets["near"].access.traffic
    assert traffic.stall_s == 30
    assert [traffic.rate_at(day, 10 * 60) for day in (4, 5)] == [40 << 20, 200 << 20]
    always = read(tmp_path, GOOD.replace("[cow.spare]", 'bandwidth = "1 MiB/s"\n[cow.spare]'))
    assert always.targets["near"].access.traffic.limits == (Limit(1 << 20),)
    assert read(tmp_path, GOOD).targets["near"].access.traffic == Traffic()


def test_there_are_samples() -> None:
    assert len(list(EXAMPLES.glob("*.toml"))) >= 3


def test_defaults_are_overlaid_table_by_table(tmp_path: Path) -> None:
    own = 'every = "1m"\ncow = { freeze_max = "1s" }\nretry = { max = "1h" }\n'
    assert read(tmp_path, GOOD + own).volumes["vg0/home"] == Volume(
        name="vg0/home",
        driver="lvm",
        target="near",
        every_s=60,
        rpo_s=600,
        cow=Cow(space="spare", chunk_size=16384, freeze_max_s=1),
        retry=Retry.model_validate({"max": "1h"}),
        block_size=4096,
        compression=PACKING_DEFAULT,
    )


def test_left_out_keys(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD.replace('rpo = "10m"', 'every = "2m"'))
    volume = config.volumes["vg0/home"]
    assert (volume.every_s, volume.rpo_s) == (120, 240)
    assert volume.retry.first_s == 10
    assert volume.device == "/dev/vg0/home"
    assert config.metrics.listen == (Listen("127.0.0.1", 10085),)
    assert config.control.socket == "/run/blocksnap/control.sock"
    assert config.daemon.state_dir == "/var/lib/blocksnap"
    assert config.cow["spare"].reserve == 1 << 30


def test_path_means_scan(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD + '[volume."/srv/x y.img"]\n')
    volume = config.volumes["/srv/x y.img"]
    assert (volume.driver, volume.cow, volume.device) == ("scan", None, "/srv/x y.img")


def test_scan_of_a_logical_volume(tmp_path: Path) -> None:
    volume = read(tmp_path, GOOD + 'driver = "scan"\n').volumes["vg0/home"]
    assert (volume.driver, volume.cow, volume.device) == ("scan", None, "/dev/vg0/home")


@pytest.mark.parametrize(
    ("listen", "wanted"),
    [
        ("[]", ()),
        ('["[::1]:10085", "0.0.0.0:1"]', (Listen("::1", 10085), Listen("0.0.0.0", 1))),
    ],
)
def test_listen(tmp_path: Path, listen: str, wanted: tuple[Listen, ...]) -> None:
    assert read(tmp_path, f"{GOOD}[metrics]\nlisten = {listen}\n").metrics.listen == wanted


RETENTION = """[retention.standard]
keep = ["all for 2h", "1/h for 2d"]
keep_tags = ["release-*"]
undelete = "3d"
[retention.short]
keep = ["all for 1d"]
"""


def test_retention(tmp_path: Path) -> None:
    text = GOOD.replace("near.key", 'near.key"\nmaintenance_key = "/etc/blocksnap/m.key')
    text = text.replace('rpo = "10m"', 'retention = "standard"') + '[volume."vg0/logs"]\n'
    own = 'retention = "short"\n[volume."vg0/tmp"]\nretention = "none"\n'
    config = read(tmp_path, text + own, keep="schema = 1\n" + RETENTION)
    assert config.targets["near"].maintenance_key == "/etc/blocksnap/m.key"
    found = config.volumes["vg0/home"].retention
    assert found is not None
    assert [rule.text for rule in found.keep] == ["all for 2h", "1/h for 2d"]
    assert (found.keep_tags, found.min_points) == (("release-*",), 3)
    assert (found.max_delete_pct, found.undelete_s) == (30, 3 * 86_400)
    short = config.volumes["vg0/logs"].retention
    assert short is not None
    assert (short.keep[0].text, short.undelete_s) == ("all for 1d", 14 * 86_400)
    assert config.volumes["vg0/tmp"].retention is None


def test_several_targets_each_with_its_retention(tmp_path: Path) -> None:
    text = GOOD.replace("near.key", 'near.key"\nmaintenance_key = "/etc/blocksnap/m.key')
    far = '[target.far]\nurl = "/far"\nsource_key = "/k"\n'
    text = text.replace("[cow.spare]", f"{far}[cow.spare]") + "targets = ['far', 'near']\n"
    config = read(tmp_path, text)
    volume = config.volumes["vg0/home"]
    assert volume.targets == ("far", "near")
    assert [lane.label for lane in config.lanes] == ["vg0/home → far", "vg0/home → near"]
    kept = "retention = { near = 'short' }\n"
    config = read(tmp_path, text + kept, keep="schema = 1\n" + RETENTION)
    far_lane, near = config.lanes
    assert (far_lane.target, far_lane.retention, near.target) == ("far", None, "near")
    assert near.retention is not None
    assert (near.targets, far_lane.targets) == (("near", "far"), ("far", "near"))
    said = complaint(tmp_path, text + "retention = { nea = 'short' }\n")
    assert "retention is for 'nea', which is no target of it" in said
    said = complaint(tmp_path, text + "retention = 'short'\n")
    assert "[target.far] has no maintenance_key" in said


def test_without_a_word_every_point_is_kept(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD).volumes["vg0/home"].retention is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("'fast'", FAST),
        ("'small'", SMALL),
        ("{ level = 9, frame = '256 KiB' }", Packing(9, 256 << 10)),
        ("{ level = -3 }", Packing(-3, PACKING_DEFAULT.frame_size)),
        ("{}", PACKING_DEFAULT),
    ],
)
def test_compression(tmp_path: Path, text: str, wanted: Packing) -> None:
    volume = read(tmp_path, GOOD + f"compression = {text}\n").volumes["vg0/home"]
    assert volume.compression == wanted


def test_maintenance_and_verification(tmp_path: Path) -> None:
    left_out = read(tmp_path, GOOD)
    assert left_out.maintenance.every_s == 1800
    assert left_out.volumes["vg0/home"].verify.data_per_day == 0.05
    text = GOOD.replace("[defaults]", '[defaults]\nverify = { structure = "7d" }')
    text += 'verify = { data = "2.5%/day" }\n[maintenance]\nevery = "5m"\n'
    config = read(tmp_path, text)
    assert config.maintenance.every_s == 300
    verify = config.volumes["vg0/home"].verify
    assert (verify.structure_s, verify.data_per_day) == (7 * 86_400, 0.025)


def test_drills(tmp_path: Path) -> None:
    left_out = read(tmp_path, GOOD)
    assert left_out.volumes["vg0/home"].drill is None
    drill = 'drill = { every = "30d", key = "/k" }'
    text = GOOD.replace("[defaults]", f"[defaults]\n{drill}")
    text += 'drill = { run = ["/bin/check", "it"], restore = false, timeout = "1h" }\n'
    found = read(tmp_path, text).volumes["vg0/home"].drill
    assert found is not None
    assert (found.every_s, found.key, found.run) == (30 * 86_400, "/k", ("/bin/check", "it"))
    assert (found.restores, found.timeout_s, found.scratch) == (False, 3600, "/var/tmp")


def test_the_size_of_cow_devices(tmp_path: Path) -> None:
    cow = read(tmp_path, GOOD).volumes["vg0/home"].cow
    assert cow is not None
    assert (cow.size, cow.full_at) == (None, 0.7)  # as large as it can ever need
    own = 'cow = { size = "10%", grow_at = 60, grow_by = "1 GiB", max = "40%", vg_reserve = "8%" }'
    cow = read(tmp_path, f"{GOOD}{own}\n").volumes["vg0/home"].cow
    assert cow is not None
    assert (cow.size, cow.size_max) == (Amount(share=0.1), Amount(share=0.4))
    assert (cow.full_at, cow.grow_by, cow.reserve) == (0.6, Amount(size=GIB), Amount(share=0.08))
    assert (cow.chunk_size, cow.grow_by.of(5)) == (16384, GIB)  # the defaults' still hold


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("size = 'much'", "cow.size 'much' is not a size"),
        ("size = 10", "cow.size must be a text with a unit, like '10%' or '10 GiB'"),
        ("size = '101%'", "cow.size '101%' is not a share from 0% to 100%"),
        ("grow_at = 99", "cow.grow_at"),
        ("max = '40%'", "cow has a max but no size"),
        ("sise = '10%'", "did you mean 'size'?"),
    ],
)
def test_each_mistake_in_cow_sizes_is_told(tmp_path: Path, text: str, wanted: str) -> None:
    assert wanted in complaint(tmp_path, f"{GOOD}cow = {{ {text} }}\n")


def test_hooks(tmp_path: Path) -> None:
    """A volume's own take the place of the defaults'; in the order of the file."""
    default = "[[defaults.hook]]\nat = 'on-failure'\nrun = ['/x/cry', 'loud']\n"
    (hook,) = read(tmp_path, GOOD + default).volumes["vg0/home"].hooks
    assert (hook.at, hook.run, hook.user) == ("on-failure", ("/x/cry", "loud"), "root")
    assert (hook.timeout_s, hook.on_error, hook.always) == (30.0, "continue", False)
    assert hook.name == "on-failure:cry"
    own = """[[volume."vg0/home".hook]]
        at = "before-snapshot"\nrun = ["/x/freeze"]\nuser = "postgres"\non_error = "fail-run"
        timeout = "5s"
        [[volume."vg0/home".hook]]
        at = "after-snapshot"\nrun = ["/x/thaw"]\nalways = true
    """
    hooks = read(tmp_path, GOOD + default + own).volumes["vg0/home"].hooks
    assert [h.name for h in hooks] == ["before-snapshot:freeze", "after-snapshot:thaw"]
    assert (hooks[0].user, hooks[0].timeout_s, hooks[0].on_error) == ("postgres", 5.0, "fail-run")
    assert hooks[1].always
    assert read(tmp_path, GOOD + "hook = []\n" + default).volumes["vg0/home"].hooks == ()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("at = 'before'\nrun = ['/x']", "hook.at must be 'before-snapshot', 'after-snapshot' or"),
        ("run = ['/x']", "hook.at is missing"),
        ("at = 'on-failure'\nrun = ['x']", "hook.run must be an absolute path, not 'x'"),
        ("at = 'on-failure'\nrun = []", "hook.run"),
        ("at = 'on-failure'\nrun = ['/x', \"a\\u0000\"]", "hook.run has a NUL character"),
        ("at = 'on-failure'\nrun = ['/x']\nalways = true", "which only after-snapshot can be"),
        ("at = 'on-failure'\nrun = ['/x']\non_error = 'fail-run'", "can only be 'continue'"),
        ("at = 'on-failure'\nrun = ['/x']\ntimout = '5s'", "did you mean 'timeout'?"),
        ("at = 'on-failure'\nrun = ['/x']\ntimeout = '2h'", "hook.timeout"),
        ("at = 'on-failure'\nrun = ['/x']\nuser = 'a b'", "hook.user"),
    ],
)
def test_each_mistake_in_a_hook_is_told(tmp_path: Path, text: str, wanted: str) -> None:
    told = complaint(tmp_path, f'{GOOD}[[volume."vg0/home".hook]]\n{text}\n')
    assert wanted in told
    assert told.startswith("b.toml:1")


def test_no_hooks_around_a_snapshot_that_is_not_taken(tmp_path: Path) -> None:
    scan = '[[volume."/x/y".hook]]\nat = "after-snapshot"\nrun = ["/x/thaw"]\n'
    assert "means nothing for driver 'scan'" in complaint(tmp_path, GOOD + scan)
    cry = scan.replace("after-snapshot", "on-failure")
    assert read(tmp_path, GOOD + cry).volumes["/x/y"].hooks


def test_conf_d_is_merged(tmp_path: Path) -> None:
    more = 'schema = 1\n[volume."vg0/mail"]\nevery = "1m"\n'
    config = read(tmp_path, GOOD, mail=more, daemon="[daemon]\nmax_parallel_runs = 7\n")
    assert list(config.volumes) == ["vg0/mail", "vg0/home"]
    assert config.daemon.max_parallel_runs == 7


BAD = [
    ("[damon]", "b.toml:12: damon is not a key of blocksnap; did you mean 'daemon'?"),
    ("[daemon]\nx = 1", "b.toml:13: daemon.x is not a key of blocksnap"),
    ("[daemon]\nmax_parallel_runs = 0", "b.toml:13: daemon.max_parallel_runs must be greater"),
    ("[daemon]\nmax_parallel_runs = '2'", "daemon.max_parallel_runs must be a whole number"),
    ("[daemon]\nstate_dir = 'x'", "b.toml:13: daemon.state_dir must be an absolute path, not 'x'"),
    ("[control]\nsocket = '/" + "x" * 110 + "'", "is longer than a socket's path may be"),
    ("[metrics]\nlisten = ['10085']", "b.toml:13: metrics.listen '10085' is not an address like"),
    ("[metrics]\nlisten = '127.0.0.1:1'", "metrics.listen must be a list"),
    ("[metrics]\nlisten = ['x:70000']", "metrics.listen 'x:70000' is not an address"),
    ("evry = '1m'", ("b.toml:12: volume.\"vg0/home\".evry is not a key of blocksnap; did you mean "
     "'every'?")),
    ("every = '5 apples'", "b.toml:12: volume.\"vg0/home\".every '5 apples' is not a duration"),
    ("every = 300", "every must be a text with a unit, like '5m'"),
    ("every = '0s'", "every must be greater"),
    ("every = '1h'", "b.toml:9: defaults.rpo is shorter than the 1h00m between points of vg0/home"),
    ("rpo = '1m'", "b.toml:12: volume.\"vg0/home\".rpo is shorter than the 5m00s between points"),
    ("driver = 'lmv'", "driver must be 'lvm' or 'scan', not 'lmv'; did you mean 'lvm'?"),
    ("block_size = '12 KiB'", "block_size must be a power of two from 4.0 KiB to 64.0 KiB"),
    ("cow = { chunk = '2 KiB' }", "b.toml:12: volume.\"vg0/home\".cow.chunk must be a power of"),
    ("cow = { chnk = '4 KiB' }", "cow.chnk is not a key of blocksnap; did you mean 'chunk'?"),
    ("cow = { space = 'spar' }", "cow names the space 'spar', which is none; did you mean 'spare'"),
    ("cow = 'spare'", "b.toml:12: volume.\"vg0/home\".cow must be a table"),
    ("retry = { first = '1 x' }", "b.toml:12: volume.\"vg0/home\".retry.first '1 x' is not a"),
    ("retry.frist = '1s'", "retry.frist is not a key of blocksnap; did you mean 'first'?"),
    ("targets = ['neer']", "targets names 'neer', which is no target; did you mean 'near'?"),
    ("targets = ['near', 'near']", "targets names 'near' twice"),
    ("targets = 'near'", "targets must be a list"),
    ("[target.t]\nurl = '/x'\nsource_key = '/k'\nbandwidth = '40 MiB'",
     "bandwidth.limit '40 MiB' is not a rate; write it like '40 MiB/s'"),
    ("[target.t]\nurl = '/x'\nsource_key = '/k'\nbandwidth = [{ limit = '1 M/s', when = 'Mo' }]",
     "'Mo' is no time of the week"),
    ("[volume.home]", "b.toml:12: volume.home is neither VG/LV, like 'vg0/home', nor an absolute"),
    ('[volume."vg0/../x"]', 'volume."vg0/../x" is neither'),
    ('[volume."/srv/../x"]', 'volume."/srv/../x" is neither'),
    ('[volume."-a/b"]', 'volume."-a/b" is neither'),
    ('[volume."/srv/x"]\ndriver = "lvm"', "driver 'lvm' wants a name like 'vg0/home', not a path"),
    ('[volume."/srv/x"]\ncow = {}', "cow means nothing for driver 'scan'"),
    ('[volume."vg1/x"]', "cow must name a space for its snapshots: there is no [cow.NAME] with vg"),
    ('[volume."vg1/x"]\ncow.space = "spare"', "cow names the space 'spare' of volume group 'vg0'"),
    ("[cow.two]\nfile = '/mnt/spare/x.img'\nvg = 'vg0'", "cow.two.file is the file of cow.spare"),
    ("[cow.two]\nfile = '/y'\nvg = 'vg0'", "cow must name a space for its snapshots: several fit"),
    ("[cow.two]\nvg = 'vg0'", "b.toml:12: cow.two.file is missing"),
    ("[cow.two]\nfile = '/y'\nvg = 'a b'", "cow.two.vg 'a b' is not a name of a volume group"),
    ("[target.t]\nurl = 's3://X/y'\nsource_key = '/k'", "'X' is not the name of a bucket"),
    ("[target.t]\nurl = 's3://k:s@vault'\nsource_key = '/k'", "a URL holds no credentials"),
    ("[target.t]\nurl = 's3://vault'\nsource_key = '/k'\ncredentials = 'c'", "absolute path"),
    ("[target.t]\nurl = 'https://'\nsource_key = '/k'", "is not a receiver's address"),
    ("[target.t]\nurl = 'ssh://-x'\nsource_key = '/k'", "does not name a receiver through ssh"),
    ("[target.t]\nurl = 'srv'\nsource_key = '/k'", "'srv' is neither a local directory"),
    ("[target.'a b']\nurl = '/x'", "target.\"a b\" is not a name"),
    ("[target.t]\nurl = '/x'\nsource_key = '/k'", "targets is missing: say which"),
    ("[target.t]\nurl = '/x'\nsource_key = '/k'\nmaintenance_key = 'k'", "an absolute path"),
    ("retention = 'x'", "volume.\"vg0/home\".retention names 'x', which is no"),
    ("retention = 'standart'\n[retention.standard]\nkeep = ['all for 2h']", "mean 'standard'?"),
    ("retention = 'nome'", "names 'nome', which is no retention; did you mean 'none'?"),
    ("retention = 's'\n[retention.s]\nkeep = ['all for 2h']",
     "volume.\"vg0/home\".retention cannot be kept: [target.near] has no maintenance_key"),
    ("[retention.s]", "b.toml:12: retention.s.keep is missing"),
    ("[retention.s]\nkeep = []", "b.toml:13: retention.s.keep"),
    ("[retention.s]\nkeep = 'all for 2h'", "retention.s.keep must be a list"),
    ("[retention.s]\nkeep = ['1/h']", "b.toml:13: retention.s.keep '1/h' is not a rule; write it"),
    ("[retention.s]\nkeep = ['7/d for 2w']", "b.toml:13: retention.s.keep '7/d for 2w' does not"),
    ("[retention.s]\nkeep = [3]", "retention.s.keep must be a text like 'all for 2h'"),
    ("[retention.s]\nkeep = ['all for 2h']\nmin_points = 0", "s.min_points must be greater"),
    ("[retention.s]\nkeep = ['all for 2h']\nmax_delete_pct = 101", "max_delete_pct must be less"),
    ("[retention.s]\nkeep = ['all for 2h']\nundelete = '0s'", "s.undelete must be greater"),
    ("[retention.s]\nkeep = ['all for 2h']\nkeep_tag = ['x']", "did you mean 'keep_tags'?"),
    ("verify = { data = '5%' }", "data '5%' is not a share of each day; write it like '5%/day'"),
    ("drill = { every = '7d' }", "needs a key"),
    ("drill = { key = 'restore.key' }", "must be an absolute path"),
    ("drill = { key = '/k', every = '1s' }", "drill.every"),
    ("drill = { key = '/k', run = '/bin/sh -c x' }", "drill.run"),
    ("verify = { data = '101%/day' }", "verify.data '101%' is not a share from 0% to 100%"),
    ("verify = { datum = '5%/day' }", "did you mean 'data'?"),
    ("compression = 'tiny'", "compression must be 'fast' or 'small', or {"),
    ("compression = 3", "compression must be 'fast' or 'small', or {"),
    ("compression = { level = 20 }", "has a level that is none from -7 to 19"),
    ("compression = { level = '3' }", "has a level that is none"),
    ("compression = { frame = '1 GiB' }", "has a frame that is none of 64.0 KiB, 128 KiB"),
    ("compression = { frame = 'big' }", "compression"),
    ("compression = { size = '64 KiB' }", "compression must be"),
    ("[maintenance]\nevery = '0s'", "maintenance.every must be greater"),
    ("[retention.none]\nkeep = ['all for 2h']", "retention.none is the word for having none"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), BAD, ids=[text.split("\n")[-1] for text, _ in BAD])
def test_each_mistake_is_told(tmp_path: Path, text: str, wanted: str) -> None:
    assert wanted in complaint(tmp_path, f"{GOOD}{text}\n")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("schema = 1\n[a\n", "b.toml:2: this is not TOML"),
        ("schema = 1\n[volume.vg0/home]\n", "b.toml:2: this is not TOML"),
        ("x = 1\nx = 2", "b.toml:2: this is not TOML: Cannot overwrite a value"),
        ("", "schema is missing; write: schema = 1"),
        ("schema = 2", "b.toml:1: schema is 2, which this version cannot read"),
        ("schema = 1\nvolume = 3", "b.toml:2: volume must be a table"),
        ("schema = 1\nvolume.x = 3", "b.toml:2: volume.x must be a table"),
        ("schema = 1\ndefaults = 3", "b.toml:2: defaults must be a table"),
        ('schema = 1\n[volume."/x"]', "targets has nothing to name: write [target.NAME]"),
        ("#" * (1 << 20) + "##", "b.toml is larger than 1048576 bytes"),
    ],
)
def test_a_file_of_another_shape(tmp_path: Path, text: str, wanted: str) -> None:
    assert wanted in complaint(tmp_path, text)


def test_unquoted_name_gets_the_hint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, "[volume.vg0/home]")
    assert caught.value.hint == 'Quote a name with a slash: [volume."vg0/home"]'


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    told = complaint(tmp_path, GOOD.replace("10m", "10 moons") + "evry = '1m'\n[damon]\n")
    assert [line.split(" ")[0] for line in told.splitlines()] == [
        "b.toml:13:",
        "b.toml:9:",
        "b.toml:12:",
    ]


def test_there_is_an_end_to_complaints(tmp_path: Path) -> None:
    told = complaint(tmp_path, GOOD + "".join(f"k{n} = 1\n" for n in range(50)))
    assert len(told.splitlines()) == 21
    assert told.endswith("… and 30 more")


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        ('[volume."vg0/home"]', 'conf.d/a.toml:1: volume."vg0/home" is in b.toml:11 already'),
        ("[defaults]\nrpo = '1h'", "conf.d/a.toml:1: defaults is in b.toml:8 already"),
        ("schema = 2", "conf.d/a.toml:1: schema is in b.toml:1 already"),
        ('\n[volume."vg0/x"]\nevry = 1', 'conf.d/a.toml:3: volume."vg0/x".evry is not a key'),
    ],
)
def test_mistakes_in_conf_d(tmp_path: Path, part: str, wanted: str) -> None:
    assert wanted in complaint(tmp_path, GOOD, a=part)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no configuration file /nowhere"):
        load("/nowhere/b.toml")
    with pytest.raises(ConfigError, match="cannot read"):
        load(str(tmp_path))


def test_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load(str(tmp_path / "b.toml"))


EXPORT = """
[export.points]
target = "near"
key = "/etc/blocksnap/restore.key"
"""


def test_an_export_is_at_one_place_of_a_target_there_is(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD + EXPORT + 'listen = "[::1]:10809"\n')
    assert config.exports["points"].listen == ("::1", 10809)
    assert read(tmp_path, GOOD).exports == {}
    socket = 'unix = "/run/x.sock"\n'
    for wrong, said in {
        "": "is at one place",
        socket + 'listen = "127.0.0.1:1"\n': "is at one place",
        socket + 'certificate = "/a"\n': "needs both certificate and certificate_key",
        socket + 'client_ca = "/a"\n': "has a client_ca but no certificate",
        'unix = "run"\n': "must be an absolute path",
    }.items():
        with pytest.raises(ConfigError, match=said):
            read(tmp_path, GOOD + EXPORT + wrong)
    with pytest.raises(ConfigError, match="names no target: 'far'"):
        read(tmp_path, GOOD + (EXPORT + socket).replace("near", "far"))
