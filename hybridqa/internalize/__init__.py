"""Documents into adapters."""
