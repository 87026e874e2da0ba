"""What the system does: ingest, retrieve, answer."""
