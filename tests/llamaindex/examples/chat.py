"""Chat with a folder of documents: LlamaIndex's tutorial, answered by hybridqa."""

from llama_index.core.chat_engine import CondenseQuestionChatEngine

from hybridqa import HybridQA
from hybridqa.llamaindex import HybridQueryEngine

qa = HybridQA("home")
qa.ingest_files(["data"])
chat_engine = CondenseQuestionChatEngine.from_defaults(HybridQueryEngine(qa))

first = chat_engine.chat("Who designed the Corvane lamp?")
second = chat_engine.chat("And how much does it weigh?")
