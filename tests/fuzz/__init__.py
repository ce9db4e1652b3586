"""Every decoder of the repository is given any bytes: a value or a documented error, nothing else.

    python -m tests.fuzz [DECODER [SECONDS]]     coverage-guided, by atheris

``decoders.py`` names them all. Bytes that came sealed or tagged are sealed or tagged again after
they were spoiled: a writer who holds the source's key is no friend either.
"""
