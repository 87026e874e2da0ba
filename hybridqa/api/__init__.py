"""What hybridqa offers over HTTP: FastAPI apps that a larger service can mount."""
