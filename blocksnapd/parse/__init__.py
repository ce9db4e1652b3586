"""WHAT CHANGED: the exception table of a dm-snapshot COW device."""
