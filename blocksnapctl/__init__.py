"""blocksnapctl: the thin client of blocksnapd."""
