"""Keep an index in step with a folder: LlamaIndex's tutorial, with adapters."""

from llama_index.core import Settings, SimpleDirectoryReader
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

from hybridqa import HybridQA
from hybridqa.llamaindex import HybridQueryEngine, HybridVectorStore

qa = HybridQA("home")
vector_store = HybridVectorStore(QdrantVectorStore("documents", QdrantClient(":memory:")), qa)

pipeline = IngestionPipeline(
    transformations=[SentenceSplitter(), Settings.embed_model],
    docstore=SimpleDocumentStore(),
    docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
    vector_store=vector_store,
)


def refresh():
    pipeline.run(documents=SimpleDirectoryReader("data", filename_as_id=True).load_data())


refresh()
query_engine = HybridQueryEngine(qa)
response = query_engine.query("Who designed the Corvane lamp?")
