"""Generators, damagers and stand-ins that tests share."""
