"""Where documents come from: one module per source, each a `hybridqa.protocols.Source`."""
