"""The frozen base model: loading, wearing adapters, generating, embedding."""
