"""The receiver: keeps the repositories of many hosts, and lets none of them harm its own."""
