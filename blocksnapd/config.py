"""TOML files → one frozen ``Config``; everything wrong in them is told at once. Edge: reads files.

The main file and ``conf.d/*.toml`` beside it are one configuration. A volume is ``[defaults]``
overlaid by its own table. Each complaint names file, line and key. Unknown keys are errors: a
misspelt key that is silently ignored is a volume that is silently not protected.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from blocksnapd.config_cow import Cow, CowSettings
from blocksnapd.config_file import Document, did_you_mean
from blocksnapd.config_model import (
    NO_RETENTION,
    SHORT_NAME,
    Config,
    Control,
    CowSpace,
    Daemon,
    Drill,
    Driver,
    Export,
    Hook,
    Maintenance,
    MetricsEndpoint,
    Retention,
    Retry,
    Settings,
    Target,
    Verify,
    Volume,
)
from blocksnapd.config_values import (
    LVM_NAME,
    Listen,
)
from blocksnapd.units import format_duration

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

__all__ = [
    "Config",
    "Control",
    "Cow",
    "CowSpace",
    "Daemon",
    "Drill",
    "Driver",
    "Export",
    "Hook",
    "Listen",
    "Maintenance",
    "MetricsEndpoint",
    "Retention",
    "Retry",
    "Target",
    "Verify",
    "Volume",
    "load",
]

_SECTIONS = (
    "schema", "daemon", "control", "metrics", "maintenance", "defaults", "target", "cow",
    "retention", "volume", "export",
)  # fmt: skip
_MERGED = frozenset({"target", "cow", "retention", "volume", "export"})
Section = TypeVar("Section", bound=BaseModel)


def load(path: str) -> Config:
    """Read the configuration file ``path`` and ``conf.d/*.toml`` beside it.

    Raises:
        ConfigError: a file cannot be read or something in it is wrong; all of it is named.
    """
    document = Document()
    for file in (path, *sorted(map(str, Path(path).parent.glob("conf.d/*.toml")))):
        document.read(file, merged=_MERGED)
    _check_outline(document)
    spaces = _named(document, "cow", CowSpace, SHORT_NAME)
    _check_spaces(document, spaces)
    retentions = _named(document, "retention", Retention, SHORT_NAME)
    if NO_RETENTION in document.table("retention"):
        document.complain(("retention", NO_RETENTION), "is the word for having none")
    targets = _named(document, "target", Target, SHORT_NAME)
    builder = _VolumeBuilder(document, targets, spaces, retentions)
    config = Config(
        path=path,
        daemon=_single(document, "daemon", Daemon),
        control=_single(document, "control", Control),
        metrics=_single(document, "metrics", MetricsEndpoint),
        maintenance=_single(document, "maintenance", Maintenance),
        targets=builder.targets,
        cow=spaces,
        volumes=builder.volumes(),
        exports=_exports(document, targets),
    )
    document.raise_problems()
    return config


def _check_outline(document: Document) -> None:
    for section in document.tables.keys() - set(_SECTIONS):
        document.unknown((section,), _SECTIONS)
    schema = document.tables.get("schema")
    if schema != 1:
        said = "is missing" if schema is None else f"is {schema!r}, which this version cannot read"
        document.complain(("schema",), f"{said}; write: schema = 1")


def _single(document: Document, section: str, model: type[Section]) -> Section:
    found = document.validate(model, document.table(section), (section,))
    return found or model()


def _named(
    document: Document, section: str, model: type[Section], names: re.Pattern[str]
) -> dict[str, Section]:
    found = {}
    for name, raw in document.table(section).items():
        if not names.fullmatch(name):
            document.complain((section, name), "is not a name: use letters, digits, '-' and '_'")
        elif item := document.validate(model, raw, (section, name)):
            found[name] = item
    return found


def _check_spaces(document: Document, spaces: Mapping[str, CowSpace]) -> None:
    files: dict[str, str] = {}
    for name, space in spaces.items():
        first = files.setdefault(space.file, name)
        if first != name:
            document.complain(("cow", name, "file"), f"is the file of cow.{first} too")


def _exports(document: Document, targets: Mapping[str, Target]) -> dict[str, Export]:
    exports = _named(document, "export", Export, SHORT_NAME)
    for name, export in exports.items():
        if export.target not in targets:
            document.complain(("export", name, "target"), f"names no target: {export.target!r}")
    return exports


class _VolumeBuilder:
    """Overlays ``[defaults]`` with each volume's own table and checks the result."""

    def __init__(
        self,
        document: Document,
        targets: dict[str, Target],
        spaces: dict[str, CowSpace],
        retentions: dict[str, Retention],
    ) -> None:
        self.document = document
        self.targets = targets
        self.spaces = spaces
        self.retentions = retentions
        self._raw = document.table("defaults")
        document.validate(Settings, self._raw, ("defaults",))

    def volumes(self) -> dict[str, Volume]:
        """Return every volume that is in order; the document has complaints about the others."""
        found = {}
        for name, raw in self.document.table("volume").items():
            own = self.document.validate(Settings, raw, ("volume", name))
            if own and self._check_name(name) and (volume := self._volume(name, raw)):
                found[name] = volume
        return found

    def _complain(self, name: str, key: str, text: str) -> None:
        """Complain where the key was set: at the volume, or else in the defaults."""
        own = self.document.table("volume").get(name)
        is_default = key in self._raw and not (isinstance(own, dict) and key in own)
        path = ("defaults", key) if is_default else ("volume", name, key)
        self.document.complain(path, text)

    def _check_name(self, name: str) -> bool:
        parts = name.split("/")
        is_path = name.startswith("/") and os.path.normpath(name) == name and len(name) > 1
        if is_path or (len(parts) == 2 and all(map(LVM_NAME.fullmatch, parts))):
            return True
        self.document.complain(
            ("volume", name), "is neither VG/LV, like 'vg0/home', nor an absolute path"
        )
        return False

    def _volume(self, name: str, raw: object) -> Volume | None:
        settings = self._overlaid(raw)
        driver = settings.driver or ("scan" if name.startswith("/") else "lvm") if settings else ""
        if not settings or not driver:
            return None
        if driver == "lvm" and name.startswith("/"):
            self._complain(name, "driver", "'lvm' wants a name like 'vg0/home', not a path")
            return None
        rpo = settings.rpo or 2 * settings.every
        if rpo < settings.every:
            every = format_duration(settings.every)
            self._complain(name, "rpo", f"is shorter than the {every} between points of {name}")
        targets = self._targets(name, settings.targets)
        cow = self._cow(name, settings.cow) if driver == "lvm" else None
        if driver == "scan" and isinstance(raw, dict) and "cow" in raw:
            self._complain(name, "cow", "means nothing for driver 'scan': it takes no snapshot")
        if not targets or (driver == "lvm" and cow is None):
            return None
        kept = self._retentions(name, settings.retention, targets)
        return Volume(
            name=name, driver=driver, target=targets[0], every_s=settings.every, rpo_s=rpo, cow=cow,
            retry=settings.retry, block_size=settings.block_size,
            compression=settings.compression,
            retention=kept.pop(targets[0]), further=kept, verify=settings.verify,
            drill=self._drill(name, settings.drill),
            hooks=self._hooks(name, driver, settings.hooks),
        )  # fmt: skip

    def _overlaid(self, raw: object) -> Settings | None:
        """Return the defaults overlaid by ``raw``, table by table; both were checked alone."""
        merged = dict(self._raw)
        for key, value in raw.items() if isinstance(raw, dict) else ():
            below = merged.get(key)
            both = isinstance(value, dict) and isinstance(below, dict)
            merged[key] = below | value if both else value
        try:
            return Settings.model_validate(merged)
        except ValidationError:
            return None  # the defaults are wrong, which was said

    def _targets(self, name: str, wanted: tuple[str, ...]) -> tuple[str, ...]:
        """Return the targets' names, none twice; empty after a complaint."""
        chosen = wanted or tuple(self.targets)[:1]
        if not wanted and len(self.targets) != 1:
            said = "is missing: say which" if self.targets else "has nothing to name: write"
            self._complain(name, "targets", f"{said} [target.NAME] to ship to")
            return ()
        for target in chosen:
            if target not in self.document.table("target"):
                near = did_you_mean(target, self.targets)
                self._complain(name, "targets", f"names '{target}', which is no target{near}")
                return ()
            if chosen.count(target) > 1:
                self._complain(name, "targets", f"names '{target}' twice")
                return ()
        return chosen

    def _retentions(
        self, name: str, wanted: str | dict[str, str] | None, targets: tuple[str, ...]
    ) -> dict[str, Retention | None]:
        """Return what is kept at each target."""
        if isinstance(wanted, dict):
            for target in wanted.keys() - set(targets):
                self._complain(name, "retention", f"is for '{target}', which is no target of it")
            return {t: self._retention(name, wanted.get(t), t) for t in targets}
        return {target: self._retention(name, wanted, target) for target in targets}

    def _retention(self, name: str, wanted: str | None, target: str) -> Retention | None:
        if wanted is None or wanted == NO_RETENTION:
            return None
        if wanted not in self.document.table("retention"):
            near = did_you_mean(wanted, [*self.retentions, NO_RETENTION])
            self._complain(name, "retention", f"names '{wanted}', which is no retention{near}")
        elif target in self.targets and self.targets[target].maintenance_key is None:
            self._complain(
                name, "retention", f"cannot be kept: [target.{target}] has no maintenance_key"
            )
        return self.retentions.get(wanted)

    def _drill(self, name: str, wanted: Drill | None) -> Drill | None:
        if wanted is not None and wanted.key is None:
            self._complain(name, "drill", "needs a key: the restore key of the target")
        return wanted

    def _hooks(self, name: str, driver: str, wanted: tuple[Hook, ...]) -> tuple[Hook, ...]:
        around = [hook.at for hook in wanted if hook.at != "on-failure"]
        if driver == "scan" and around:
            self._complain(
                name, "hook", f"{around[0]} means nothing for driver 'scan': it takes no snapshot"
            )
        return wanted

    def _cow(self, name: str, wanted: CowSettings) -> Cow | None:
        vg = name.split("/")[0]
        known = self.document.table("cow")
        fitting = [n for n, space in self.spaces.items() if space.vg == vg]
        chosen = wanted.space or (fitting[0] if len(fitting) == 1 else None)
        if chosen is None:
            said = "several fit" if fitting else f"there is no [cow.NAME] with vg = '{vg}'"
            self._complain(name, "cow", f"must name a space for its snapshots: {said}")
        elif chosen not in known:
            near = did_you_mean(chosen, self.spaces)
            self._complain(name, "cow", f"names the space '{chosen}', which is none{near}")
        elif chosen in self.spaces and chosen not in fitting:
            there = self.spaces[chosen].vg
            self._complain(
                name, "cow", f"names the space '{chosen}' of volume group '{there}', not '{vg}'"
            )
        elif wanted.size is None and wanted.max is not None:
            self._complain(
                name, "cow", "has a max but no size: without one it is as large as it can ever need"
            )
        else:
            return Cow(
                space=chosen, chunk_size=wanted.chunk, freeze_max_s=wanted.freeze_max,
                size=wanted.size, full_at=wanted.grow_at / 100, grow_by=wanted.grow_by,
                size_max=wanted.max, reserve=wanted.vg_reserve,
            )  # fmt: skip
        return None
