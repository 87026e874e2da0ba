"""Split a question in parts that a tool answers: LlamaIndex's tutorial, answered by hybridqa."""

from llama_index.core.query_engine import SubQuestionQueryEngine
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.tools import QueryEngineTool, ToolMetadata

from hybridqa import HybridQA
from hybridqa.llamaindex import HybridQueryEngine

qa = HybridQA("home")
qa.ingest_files(["data"])

query_engine_tools = [
    QueryEngineTool(
        query_engine=HybridQueryEngine(qa),
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
