"""WHEN: schedule, rotation of snapshots, and the commands that perform it."""
