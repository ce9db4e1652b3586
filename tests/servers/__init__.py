"""Servers of others' making that the tests run against."""
