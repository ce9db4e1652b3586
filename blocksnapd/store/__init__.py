"""KEEP: the repository of restore points."""
