"""Which path answers a question: signals of documents and questions, policy, decision. Pure."""
