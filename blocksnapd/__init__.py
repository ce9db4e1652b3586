"""blocksnapd: restore points for block volumes, a few minutes apart."""

__version__ = "0.1.0"
