"""hybridqa inside a LlamaIndex app: query engine, retriever, selector, LLM, vector store, embedder.

Example:
    with HybridQA("home") as qa:
        qa.ingest_files(["docs"])
        response = HybridQueryEngine(qa).query("How long is the notice period?")
        print(response, response.metadata["hybridqa_arm"], response.source_nodes)
"""

from hybridqa.errors import InputError

try:
    import llama_index.core  # noqa: F401 - told here, before what needs it fails somewhere inside
except ImportError as exc:
    raise InputError(
        f"`hybridqa.llamaindex` needs LlamaIndex, which cannot be imported: {exc}. "
        "Run `pip install 'hybridqa[llamaindex]'`."
    ) from exc

from hybridqa.llamaindex.embedder import AppEmbedder
from hybridqa.llamaindex.events import AdapterEvent, IngestEvent, RouteEvent, VerificationEvent
from hybridqa.llamaindex.llm import AdapterLLM
from hybridqa.llamaindex.query_engine import HybridQueryEngine
from hybridqa.llamaindex.retriever import HybridRetriever
from hybridqa.llamaindex.selector import StabilitySelector
from hybridqa.llamaindex.vector_store import HybridVectorStore

__all__ = [
    "AdapterEvent",
    "AdapterLLM",
    "AppEmbedder",
    "HybridQueryEngine",
    "HybridRetriever",
    "HybridVectorStore",
    "IngestEvent",
    "RouteEvent",
    "StabilitySelector",
    "VerificationEvent",
]
