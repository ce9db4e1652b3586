"""Tests of blocksnap; the folders mirror the package one to one."""
