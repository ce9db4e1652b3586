"""MAINTAIN: what changes a repository after its points were committed."""
