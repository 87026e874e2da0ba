"""Split a question in parts that a tool answers: LlamaIndex's tutorial."""

from llama_index.core import SimpleDirectoryReader, VectorStoreIndex
from llama_index.core.query_engine import SubQuestionQueryEngine
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.tools import QueryEngineTool, ToolMetadata

documents = SimpleDirectoryReader("data").load_data()
vector_query_engine = VectorStoreIndex.from_documents(documents).as_query_engine()

query_engine_tools = [
    QueryEngineTool(
        query_engine=vector_query_engine,
        metadata=ToolMetadata(name="catalogue", description="Lamps and bridges"),
    ),
]
query_engine = SubQuestionQueryEngine.from_defaults(
    query_engine_tools=query_engine_tools,
    question_gen=LLMQuestionGenerator.from_defaults(),
    use_async=True,
    verbose=False,
)

response = query_engine.query("Who designed the lamp, and when was the bridge opened?")
