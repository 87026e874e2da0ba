"""Train the associative hypernetwork and the adapters that go with it."""
