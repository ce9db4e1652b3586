"""GIVE BACK: a restore point as a disk, and its copies."""
