"""The Python part of the Debian package: a virtual environment that every Debian served can use.

    python packaging/deb/bundle.py lock               pins what pyproject.toml asks for
    python packaging/deb/bundle.py unpack ROOT        makes usr/lib/blocksnap and usr/bin below ROOT

Debian 12 has none of the libraries in the versions that are needed, so the package brings them:
wheels as their authors built them, each checked against its SHA-256 in requirements.txt. Those for
one Python lie in lib/pythonX.Y/site-packages; pure ones and stable-ABI ones lie once in lib/common.
So one package works with the Python of Debian 12 and that of 13, also across the upgrade of one to
the other. systemd-python alone is Debian's (python3-systemd): it exists as source only.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
PYTHONS = ("3.11", "3.13")  # of Debian 12 and 13
MACHINES = ("x86_64", "aarch64")
GLIBC_MINOR_MAX = 36  # of the oldest Debian
FROM_DEBIAN = {"systemd-python"}
EXTRAS = ("s3",)
OWN = ("blocksnapd", "blocksnapctl")
PYVENV = "home = /usr/bin\ninclude-system-site-packages = true\n"
LAUNCHER = """\
#!/usr/lib/blocksnap/bin/python -sP
import sys

from {package}.__main__ import main

sys.exit(main())
"""


def lock() -> None:
    """Write requirements.txt: the newest versions that the oldest Python takes, with all hashes."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = wanted_by(project)
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder, "first")
        _download(first, PYTHONS[0], MACHINES[0], *wanted)
        pins = sorted({"==".join(wheel.name.split("-")[:2]) for wheel in first.iterdir()})
        pins = [pin.replace("_", "-").lower() for pin in pins]
        for python in PYTHONS:
            for machine in MACHINES:
                _download(Path(folder, python, machine), python, machine, "--no-deps", *pins)
        wheels = {wheel.name: wheel for wheel in Path(folder).rglob("*.whl")}
        lines = ["# Made by packaging/deb/bundle.py lock: what the Debian package brings.\n"]
        for pin in pins:
            prefix = pin.replace("-", "_").replace("==", "-") + "-"
            sums = sorted(
                hashlib.sha256(wheel.read_bytes()).hexdigest()
                for name, wheel in wheels.items()
                if name.lower().startswith(prefix)
            )
            lines.append(" \\\n    ".join([pin, *(f"--hash=sha256:{s}" for s in sums)]) + "\n")
    REQUIREMENTS.write_text("".join(lines))


def unpack(target: Path) -> None:
    """Make the environment in ``target``, which does not exist yet."""
    machine = platform.machine()
    with tempfile.TemporaryDirectory() as folder:
        wheels: dict[str, dict[str, Path]] = {}
        for python in PYTHONS:
            place = Path(folder, python)
            _download(place, python, machine, "--require-hashes", "--no-deps", "-r", REQUIREMENTS)
            wheels[python] = {wheel.name: wheel for wheel in place.iterdir()}
        shared = set.intersection(*(set(of) for of in wheels.values()))
        common = target / "lib/common"
        _install(common, PYTHONS[0], machine, [wheels[PYTHONS[0]][name] for name in sorted(shared)])
        for python, of in wheels.items():
            site = target / f"lib/python{python}/site-packages"
            own = [wheel for name, wheel in sorted(of.items()) if name not in shared]
            _install(site, python, machine, own)
            (site / "blocksnap.pth").write_text("../../common\n")
    for package in OWN:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / package, common / package, ignore=ignore)
    (target / "bin").mkdir()
    (target / "bin/python").symlink_to("/usr/bin/python3")
    (target / "pyvenv.cfg").write_text(PYVENV)


def launchers(folder: Path) -> None:
    """Write the commands into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in OWN:
        path = folder / package
        path.write_text(LAUNCHER.format(package=package))
        path.chmod(0o755)
    (folder / "blocksnap").symlink_to("blocksnapctl")


def wanted_by(project: dict[str, Any]) -> list[str]:
    """Return what the package has to bring, of the table ``project`` of pyproject.toml."""
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]
    return [line for line in lines if name_of(line) not in FROM_DEBIAN]


def name_of(requirement: str) -> str:
    """Return the name of what a line of requirements asks for, normalized."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s<>=!~\[;]", requirement, maxsplit=1)[0]).lower()


def _install(target: Path, python: str, machine: str, wheels: list[Path]) -> None:
    _pip("install", "--no-deps", "--no-index", "--no-compile", "--target", target,
         *_for(python, machine), *wheels)  # fmt: skip
    shutil.rmtree(target / "bin", ignore_errors=True)
    for tests in target.glob("numpy/**/tests"):  # a third of it, and never imported
        shutil.rmtree(tests)


def _download(target: Path, python: str, machine: str, *what: str | Path) -> None:
    _pip("download", "--dest", target, *_for(python, machine), *what)


def _for(python: str, machine: str) -> list[str]:
    number = python.replace(".", "")
    words = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    words += [f"--abi={abi}" for abi in (f"cp{number}", "abi3", "none")]
    words += [f"--platform=manylinux_2_{n}_{machine}" for n in range(GLIBC_MINOR_MAX, 4, -1)]
    return [*words, f"--platform=manylinux2014_{machine}"]


def _pip(*words: str | Path) -> None:
    argv = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*argv, *words], check=True)


if __name__ == "__main__":
    if sys.argv[1] == "lock":
        lock()
    else:
        unpack(Path(sys.argv[2], "usr/lib/blocksnap"))
        launchers(Path(sys.argv[2], "usr/bin"))
