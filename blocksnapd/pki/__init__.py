"""Certificates of sources and receivers: made, exchanged for a short code, renewed, revoked."""
