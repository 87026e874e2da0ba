"""Ask a body of documents anything, answered from weights or from retrieval, whichever is right."""
