"""Give decoders bytes chosen by which lines they reach.

    python -m tests.fuzz [DECODER [SECONDS [FOLDER]]]

``FOLDER`` keeps what was worth keeping, for the next time; without a decoder: lists them. Needs
atheris (``pip install 'blocksnap[fuzz]'``), which follows the code: what reaches a new branch is
kept and spoiled further. The first finding ends the program, and not with 0.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["blocksnapd.store", "blocksnapd.maintain"]):
    from blocksnapd.errors import BlocksnapError
    from tests.fuzz.decoders import all_decoders


def fuzz(name: str, seconds: int, corpus: Path) -> None:
    """Fuzz one decoder for that long; ends the program."""
    decoder = all_decoders()[name]
    corpus.mkdir(exist_ok=True)
    for number, data in enumerate(decoder.samples()):
        (corpus / f"sample-{number}").write_bytes(data)

    def once(data: bytes) -> None:
        try:
            decoder.decode(data)
        except BlocksnapError:
            return

    # Linux counts the peak of who started this process (vfork, exec) as its own: ru_maxrss.
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    atheris.Setup(
        ["fuzz", str(corpus), f"-max_total_time={seconds}", "-max_len=20000", "-timeout=10",
         f"-rss_limit_mb={peak_mib + 2000}", "-verbosity=0", "-print_final_stats=1",
         f"-artifact_prefix={corpus}/"], once,
    )  # fmt: skip
    atheris.Fuzz()


def main() -> None:
    """Read the arguments; without any list the decoders."""
    if len(sys.argv) == 1:
        print("\n".join(all_decoders()))
        return
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    folder = sys.argv[3] if len(sys.argv) > 3 else tempfile.mkdtemp(prefix="blocksnap-fuzz-")
    fuzz(sys.argv[1], seconds, Path(folder))


if __name__ == "__main__":
    main()
