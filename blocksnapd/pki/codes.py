"""The short code that somebody carries from the receiver's screen to the source's. Pure.

Eight characters of Crockford's base 32, 40 bits: what is easily confused (I, L, O, U) is not in
it, and is read as what it was meant to be.
"""

from __future__ import annotations

import secrets
from typing import Final

from blocksnapd.errors import UsageError

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH: Final = 8
_MEANT = str.maketrans("ILO", "110", "- ")


def new_code() -> str:
    """Return a new code as it is shown, like K7QM-2XPA."""
    code = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    return f"{code[: LENGTH // 2]}-{code[LENGTH // 2 :]}"


def read_code(text: str) -> str:
    """Return the code that somebody typed, in its one form without the dash.

    Raises:
        UsageError: it cannot be a code.
    """
    code = text.strip().upper().translate(_MEANT)
    if len(code) != LENGTH or not set(code) <= set(ALPHABET):
        raise UsageError(
            "that is not a pairing code",
            effect="Nothing was asked of the receiver; no try was used up.",
            hint="It is two groups of four letters and digits, like K7QM-2XPA.",
        )
    return code
