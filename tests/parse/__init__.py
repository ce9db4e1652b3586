"""Tests of blocksnapd/parse."""
