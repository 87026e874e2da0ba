"""Keep an index in step with a folder: LlamaIndex's tutorial."""

from llama_index.core import Settings, SimpleDirectoryReader, VectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

vector_store = QdrantVectorStore("documents", QdrantClient(":memory:"))

pipeline = IngestionPipeline(
    transformations=[SentenceSplitter(), Settings.embed_model],
    docstore=SimpleDocumentStore(),
    docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
    vector_store=vector_store,
)


def refresh():
    pipeline.run(documents=SimpleDirectoryReader("data", filename_as_id=True).load_data())


refresh()
query_engine = VectorStoreIndex.from_vector_store(vector_store).as_query_engine()
response = query_engine.query("Who designed the Corvane lamp?")
