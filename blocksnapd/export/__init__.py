"""Export: a restore point offered as a disk over NBD."""
