"""Durable state: home directory, catalog, adapters, chunk index."""
