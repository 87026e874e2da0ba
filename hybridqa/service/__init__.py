"""What a long-running process adds to a home: tenants, admission, jobs. Knows nothing of HTTP."""
