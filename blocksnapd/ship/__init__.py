"""MOVE: read what changed, leave out what did not, hand the rest to the repository."""
