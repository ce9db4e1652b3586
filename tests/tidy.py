"""The shape of the code, as rules over its syntax trees: ``problems`` tells what breaks them. Pure.

Imports point down the layers and the verbs are strangers to each other; pure modules reach neither
clock nor disk nor network; few modules sync, rename or start programs, none through a shell; every
module says what it is for, has a test and fits on a few pages. Exceptions stand in the tables here.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LAYERS = (
    {"errors", "pace", "units"},
    {"keep_rules", "metric_table", "model", "packing", "receiver_url", "s3_url", "toml_lines"},
    {"blocks", "ports"}, {"runtime", "config"}, {"metrics", "pki"},
    {"cycle", "parse", "ship", "store", "restore", "export", "files", "control"},
    {"maintain", "receive"}, {"shipping"}, {"pipeline"}, {"service"}, {"daemon", "worker"},
    {"__main__"},
)  # fmt: skip
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
CTL_MAY_IMPORT = {
    "blocksnapd", "blocksnapd.control.messages", "blocksnapd.errors", "blocksnapd.units",
}  # fmt: skip
IMPURE = {
    "aiofiles", "aiohttp", "asyncio", "ctypes", "fcntl", "glob", "mmap", "multiprocessing", "os",
    "pathlib", "select", "selectors", "shutil", "signal", "socket", "subprocess", "systemd",
    "tempfile", "threading", "time", "uvloop",
}  # fmt: skip
PURE_ANYWAY = {
    ("blocksnapd.export.disk", "threading"): "a lock around what is remembered",
    ("blocksnapd.store.compression", "threading"): "one compressor per thread, nothing outside",
    ("blocksnapd.store.place_numbers", "threading"): "a lock around what was met",
}
# What the test named shows by running whole programs or a real device-mapper.
TESTED_THROUGH = {
    "blocksnapd.config_file": "tests.test_config",
    "blocksnapd.config_cow": "tests.test_config",
    "blocksnapd.config_model": "tests.test_config",
    "blocksnapd.config_values": "tests.test_config",
    "blocksnapd.control.operations": "tests.flow.test_scan_flow",
    "blocksnapd.cycle.block_device": "tests.lab.test_lvm_source",
    "blocksnapd.cycle.cow_place": "tests.lab.test_lvm_trouble",
    "blocksnapd.cycle.dm_stack": "tests.lab.test_lvm_kill",
    "blocksnapd.cycle.guard": "tests.lab.test_lvm_orphan",
    "blocksnapd.cycle.lvm_errors": "tests.lab.test_lvm_trouble",
    "blocksnapd.cycle.new_volume": "tests.lab.test_new_volume",
    "blocksnapd.cycle.merging": "tests.lab.test_merge",
    "blocksnapd.cycle.snapshot_content": "tests.lab.test_lvm_source",
    "blocksnapd.cycle.volume_repair": "tests.lab.test_lvm_kill",
    "blocksnapd.export.connection": "tests.export.test_server",
    "blocksnapd.runtime.process": "tests.flow.test_scan_flow",
    "blocksnapctl.supporting": "tests.flow.test_support_flow",
    "blocksnapd.service.config_diff": "tests.flow.test_reload_flow",
    "blocksnapd.service.reloading": "tests.flow.test_reload_flow",
    "blocksnapd.service.serving": "tests.test_daemon",
    "blocksnapd.service.checkup": "tests.flow.test_scan_flow",
    "blocksnapd.service.drill_run": "tests.flow.test_drill_flow",
    "blocksnapd.service.merging": "tests.lab.test_merge",
    "blocksnapd.service.restoring": "tests.service.test_worker_operations",
    "blocksnapd.ship.prover": "tests.test_pipeline",
    "blocksnapd.ship.reading": "tests.test_pipeline",
}
SYNCS = {
    "fsync", "fdatasync", "syncfs", "sync_file_range", "os.rename", "os.renames", "os.replace",
    "os.link", "os.sync",
}  # fmt: skip
MAY_SYNC = {
    "blocksnapd.runtime.durable": "local state and the steps that all others use",
    "blocksnapd.cycle.block_device": "syncs the origin around a snapshot",
}
STARTS = {
    "create_subprocess_exec", "os.posix_spawn", "os.posix_spawnp", "os.fork", "os.forkpty",
    "os.execv", "os.execve", "os.execvp", "os.execvpe", "subprocess.run", "subprocess.Popen",
    "subprocess.call", "subprocess.check_call", "subprocess.check_output",
}  # fmt: skip
# The last one starts ssh, whose whole life is one connection: there is no end to wait for.
MAY_START = (
    "blocksnapd.cycle.", "blocksnapd.runtime.process", "blocksnapctl.", "blocksnapd.store.ssh",
)  # fmt: skip
SHELLS = {"create_subprocess_shell", "os.system", "os.popen", "shell=True"}
LINES_MAX = 400


def problems(sources: Mapping[str, str], tests: Mapping[str, str]) -> list[str]:
    """Return each broken rule as a sentence; empty when all is well. Arguments: name → text."""
    trees = {name: ast.parse(text) for name, text in sources.items()}
    tested = {name for text in tests.values() for name in imports(ast.parse(text), sources)}
    edges = {name for name, tree in trees.items() if says(tree, "Edge.")}
    found: list[str] = []
    for name, tree in sorted(trees.items()):
        text = ast.get_docstring(tree) or ""
        lines = sources[name].count("\n")
        found += (f"{name} may not import {other}" for other in strangers(name, tree, sources))
        found += (f"{name} may not {deed}" for deed in deeds(name, tree))
        if says(tree, "Pure."):
            reached = set(imports(tree, sources, running=True))
            found += (
                f"{name} says it is pure but imports {other}"
                for other in sorted(reached)
                if (other.split(".")[0] in IMPURE or other in edges)
                and (name, other) not in PURE_ANYWAY
            )
        if not text:
            found.append(f"{name} does not say what it is for: no docstring")
        if lines > LINES_MAX and "long because" not in text:
            found.append(f"{name} has {lines} lines; split it or say 'long because ...' on top")
        through = TESTED_THROUGH.get(name, mirror(name))
        if not name.endswith("__") and name not in tested and through not in tests:
            found.append(f"{name} has no test; write {mirror(name).replace('.', '/')}.py")
    return found


def imports(tree: ast.AST, known: Mapping[str, str], *, running: bool = False) -> Iterator[str]:
    """Yield the modules that ``tree`` imports; with ``running`` without those for types only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in known else node.module or "a relative name"
        elif not (running and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            yield from imports(node, known, running=running)


def says(tree: ast.Module, word: str) -> bool:
    """Return whether the docstring declares ``word``."""
    return re.search(rf"(^|\s){re.escape(word)}(\s|$)", ast.get_docstring(tree) or "") is not None


def mirror(name: str) -> str:
    """Return the test module that belongs to module ``name``."""
    package, _, module = name.rpartition(".")
    folder = package.replace("blocksnapctl", "tests.ctl").replace("blocksnapd", "tests")
    return f"{folder}.test_{module}"


def strangers(name: str, tree: ast.Module, known: Mapping[str, str]) -> list[str]:
    """Return what ``name`` imports from this project although its layer must not know it."""
    ours = {i for i in imports(tree, known) if i.split(".")[0] in ("blocksnapd", "blocksnapctl")}
    if name.startswith("blocksnapctl"):
        return sorted(i for i in ours - CTL_MAY_IMPORT if i.startswith("blocksnapd"))
    return sorted(
        i for i in ours - {"blocksnapd"}
        if i.startswith("blocksnapctl") or (part(i) != part(name) and level(i) >= level(name))
    )  # fmt: skip


def part(name: str) -> str:
    """Return the part of blocksnapd that ``name`` belongs to; config_model is part of config."""
    return re.sub("^config_.*", "config", name.split(".")[1])


def level(name: str) -> int:
    """Return the layer of module ``name``; a part that no layer names breaks the rule at once."""
    return LEVEL.get(part(name), -1 if part(name) == "__init__" else len(LAYERS))


def deeds(name: str, tree: ast.Module) -> Iterator[str]:
    """Yield what ``name`` does although it is for others: sync, rename, start programs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword):
            used = {f"{node.arg}={ast.unparse(node.value)}"}
        elif isinstance(node, ast.Attribute):
            used = {node.attr, ast.unparse(node)}
        else:
            continue
        allowed = SYNCS if name in MAY_SYNC else set()
        allowed = allowed | STARTS if name.startswith(MAY_START) else allowed
        yield from sorted(used & (SYNCS | STARTS | SHELLS) - allowed)
