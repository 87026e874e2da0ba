"""Chat with a folder of documents: LlamaIndex's tutorial."""

from llama_index.core import SimpleDirectoryReader, VectorStoreIndex

documents = SimpleDirectoryReader("data").load_data()
index = VectorStoreIndex.from_documents(documents)
chat_engine = index.as_chat_engine(chat_mode="condense_question")

first = chat_engine.chat("Who designed the Corvane lamp?")
second = chat_engine.chat("And how much does it weigh?")
