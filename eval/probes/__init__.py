"""What a document's adapter knows, and what it harms: short experiments, each with its controls."""
