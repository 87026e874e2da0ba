"""What every chunk index must do, whichever engine is behind it."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from numpy.typing import NDArray
from qdrant_client import QdrantClient

from hybridqa.errors import HomeInUseError, IndexUnavailableError, InputError, StoreError
from hybridqa.protocols import ChunkIndex, IndexedChunk, SearchFilter
from hybridqa.stores.edge_index import EdgeIndex
from hybridqa.stores.server_index import ServerIndex
from hybridqa.testing import FakeEmbedder
from hybridqa.types import Chunk, content_hash

# Qdrant's in-memory mode says so when it ignores an index.
pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect")

EMBEDDER = FakeEmbedder()
Open = Callable[..., ChunkIndex]
"""(tenant, embedder) -> index; every call opens the same folder or collection."""


@pytest.fixture(params=["edge", "memory", "server"])
def open_index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    opened: list[ChunkIndex] = []
    client = None
    if request.param == "memory":
        client = QdrantClient(":memory:")
    elif request.param == "server":
        if "QDRANT_URL" not in os.environ:
            pytest.skip("set QDRANT_URL to test against a Qdrant server")
        client = QdrantClient(
            url=os.environ["QDRANT_URL"], api_key=os.environ.get("QDRANT_API_KEY")
        )
    collection = f"hybridqa-test-{uuid.uuid4()}"

    def open_(tenant: str = "default", embedder: FakeEmbedder = EMBEDDER) -> ChunkIndex:
        if client is not None:
            index: ChunkIndex = ServerIndex(client, embedder, collection, tenant)
        else:
            for other in opened:  # one opener at a time
                other.close()
            index = EdgeIndex(tmp_path / "home" / "index", embedder, tenant)
        opened.append(index)
        return index

    yield open_
    for index in opened:
        index.close()
    if client is not None:
        client.delete_collection(collection)
        client.close()


@pytest.fixture
def index(open_index: Open) -> ChunkIndex:
    return open_index()


def chunk(
    text: str,
    document_id: str = "a.md",
    start: int = 0,
    revision: str = "1",
    vector: NDArray[np.float32] | None = None,
    modified_at: datetime | None = None,
) -> IndexedChunk:
    return IndexedChunk(
        chunk=Chunk(
            document_id=document_id,
            content_hash=content_hash(document_id + revision),
            start=start,
            end=start + len(text),
            text=text,
        ),
        vector=EMBEDDER.embed([text])[0] if vector is None else vector,
        modified_at=modified_at,
    )


def texts(
    index: ChunkIndex, question: str, limit: int = 5, where: SearchFilter | None = None
) -> list[str]:
    hits = index.search(question, EMBEDDER.embed([question])[0], limit, where or SearchFilter())
    return [hit.chunk.text for hit in hits]


def unit(axis: int) -> NDArray[np.float32]:
    vector = np.zeros(EMBEDDER.dimension, dtype=np.float32)
    vector[axis] = 1.0
    return vector


def test_finds_what_was_added(index: ChunkIndex) -> None:
    warranty = chunk("The warranty lasts five years.", "warranty.md", start=12)
    index.add([warranty, chunk("The canteen serves soup.", "canteen.md")])

    hits = index.search("How long is the warranty?", warranty.vector, limit=2)

    assert hits[0].chunk == warranty.chunk
    assert hits[0].score > hits[1].score > 0


def test_an_empty_index_finds_nothing(index: ChunkIndex) -> None:
    assert texts(index, "anything") == []
    assert index.count() == 0
    assert index.revisions() == set()
    index.remove("a.md")
    index.add([])


def test_limit(index: ChunkIndex) -> None:
    index.add(chunk(f"apple number {i}", start=i) for i in range(60))

    assert len(texts(index, "apple", limit=7)) == 7
    assert len(texts(index, "apple", limit=100)) == 60
    assert texts(index, "apple", limit=0) == []


def test_adding_again_replaces(index: ChunkIndex) -> None:
    index.add([chunk("old words"), chunk("old words", start=50)])
    index.add([chunk("new words")])

    assert index.count() == 2
    assert sorted(texts(index, "words")) == ["new words", "old words"]


def test_remove_all_or_all_but_one_revision(index: ChunkIndex) -> None:
    old, new = chunk("old apple", revision="1"), chunk("new apple", revision="2")
    other = chunk("other apple", "b.md")
    index.add([old, new, other])

    index.remove("a.md", keep_hash=new.chunk.content_hash)
    assert sorted(texts(index, "apple")) == ["new apple", "other apple"]

    index.remove("a.md")
    assert texts(index, "apple") == ["other apple"]


def test_count_and_revisions(index: ChunkIndex) -> None:
    old, new, other = chunk("x", revision="1"), chunk("y", revision="2"), chunk("z", "b.md")
    index.add([old, new, chunk("more", revision="2", start=9), other])

    assert (index.count(), index.count("a.md"), index.count("nowhere.md")) == (4, 3, 0)
    assert index.revisions() == {
        (item.chunk.document_id, item.chunk.content_hash) for item in (old, new, other)
    }


def test_more_chunks_than_one_batch_or_page(index: ChunkIndex) -> None:
    index.add(chunk(f"word{i}", f"{i}.md") for i in range(1100))

    assert index.count() == 1100
    assert len(index.revisions()) == 1100
    assert texts(index, "word777", limit=1) == ["word777"]


def test_filter_by_document(index: ChunkIndex) -> None:
    index.add([chunk("apple one", "a.md"), chunk("apple two", "b.md"), chunk("apple 3", "c.md")])

    def found(*ids: str) -> list[str]:
        return sorted(texts(index, "apple", where=SearchFilter(document_ids=ids)))

    assert found("a.md", "c.md") == ["apple 3", "apple one"]
    assert found("nowhere.md") == []
    assert found() == []


def test_the_filter_applies_before_the_limit(index: ChunkIndex) -> None:
    index.add(chunk("apple apple", f"{i}.md") for i in range(100))
    index.add([chunk("a single apple among pears", "pears.md")])

    where = SearchFilter(document_ids=["pears.md"])

    assert texts(index, "apple", limit=1, where=where) == ["a single apple among pears"]


def test_filter_by_time(index: ChunkIndex) -> None:
    noon = datetime(2024, 5, 1, 12, tzinfo=UTC)
    index.add(
        [
            chunk("apple before", "a.md", modified_at=noon - timedelta(microseconds=1)),
            chunk("apple noon", "b.md", modified_at=noon.astimezone(timezone(timedelta(hours=9)))),
            chunk("apple whenever", "c.md"),
        ]
    )

    def found(after: datetime | None = None, before: datetime | None = None) -> list[str]:
        where = SearchFilter(modified_after=after, modified_before=before)
        return sorted(texts(index, "apple", where=where))

    hour = timedelta(hours=1)
    assert found(after=noon) == ["apple noon"]
    assert found(before=noon) == ["apple before"]
    assert found(after=noon - hour) == ["apple before", "apple noon"]
    assert found(after=noon - hour, before=noon) == ["apple before"]
    assert found(after=noon + hour) == []


def test_a_time_without_a_timezone_is_refused(index: ChunkIndex) -> None:
    with pytest.raises(InputError, match=r"2024-05-01T00:00:00\+00:00"):
        texts(index, "apple", where=SearchFilter(modified_after=datetime(2024, 5, 1)))


def test_tenants_do_not_see_each_other(open_index: Open) -> None:
    open_index("red").add([chunk("apple of red"), chunk("red again", "r.md")])
    open_index("blue").add([chunk("apple of blue")])
    open_index("blue").remove("r.md")

    red = open_index("red")
    assert red.count() == 2
    assert sorted(texts(red, "apple red blue")) == ["apple of red", "red again"]
    blue = open_index("blue")
    assert len(blue.revisions()) == 1
    assert texts(blue, "apple red blue") == ["apple of blue"]


def test_word_rarity_is_the_tenants_own(open_index: Open) -> None:
    near, far = unit(0), unit(1)
    mine = [chunk("filler", "f.md", start=i, vector=near) for i in range(60)]
    mine += [chunk("pear", f"{i}.md", vector=far) for i in range(20)]
    open_index("mine").add([*mine, chunk("apple", "x.md", vector=far)])
    open_index("theirs").add(chunk("apple", f"{i}.md", vector=far) for i in range(200))

    hits = open_index("mine").search("apple pear", near, limit=10)

    by_words = [hit.chunk.text for hit in hits if hit.chunk.text != "filler"]
    assert by_words[0] == "apple"  # rare here, though common at the neighbour's


def test_words_and_meaning_both_find(index: ChunkIndex) -> None:
    noise = [chunk(f"noise {i}", "n.md", start=i, vector=unit(2 + i % 60)) for i in range(200)]
    by_word = chunk("The E4711 code means overheating.", "codes.md", vector=unit(0))
    by_meaning = chunk("It gets too hot.", "heat.md", vector=unit(1))
    index.add([*noise, by_word, by_meaning])

    hits = index.search("E4711", unit(1), limit=2)

    assert {hit.chunk for hit in hits} == {by_word.chunk, by_meaning.chunk}
    similarity = {hit.chunk.document_id: hit.similarity for hit in hits}
    assert similarity == pytest.approx({"codes.md": 0.0, "heat.md": 1.0}, abs=1e-6)


def test_a_chunk_that_both_find_comes_first(index: ChunkIndex) -> None:
    between = (unit(0) + unit(1)) / np.sqrt(np.float32(2))
    index.add([chunk("filler", "f.md", start=i, vector=between) for i in range(30)])
    index.add([chunk("other", "m.md", vector=unit(0)), chunk("valve", "w.md", vector=unit(5))])
    index.add([chunk("valve seat", "both.md", vector=(between * 2 + unit(0)) / 2.8)])

    assert index.search("valve", unit(0), limit=3)[0].chunk.document_id == "both.md"


def test_similarity_is_the_cosine(index: ChunkIndex) -> None:
    chunks = [chunk(f"apple {'pear ' * i}", start=i) for i in range(10)]
    index.add(chunks)
    query = EMBEDDER.embed(["apple"])[0]

    hits = index.search("apple", query, limit=10)

    expected = {item.chunk.start: float(item.vector @ query) for item in chunks}
    assert {hit.chunk.start: hit.similarity for hit in hits} == pytest.approx(expected, abs=1e-5)
    assert all(-1 <= hit.similarity <= 1 for hit in hits)


def test_ties_are_ordered_by_document_and_start(index: ChunkIndex) -> None:
    # One is first by meaning, the other by words: equal fused scores.
    index.add([chunk("nothing", "b.md", vector=unit(0)), chunk("valve", "a.md", vector=unit(1))])
    index.add(chunk(f"filler {i}", "z.md", start=i, vector=unit(2 + i)) for i in range(30))

    for _ in range(20):
        hits = index.search("valve", unit(0), limit=1)
        assert [hit.chunk.document_id for hit in hits] == ["a.md"]


@pytest.mark.parametrize("question", ["", "   ", "the of and", "?!", "\0"])
def test_a_question_without_words(index: ChunkIndex, question: str) -> None:
    index.add([chunk("apple")])

    assert texts(index, question) == ["apple"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0",
        "a\0b",
        "naïve café",
        "保修期是五年。",
        "שלום עולם",
        "👩‍👩‍👧",
        "lone \udc80",
        '\0json:"x"',
    ],
)
def test_any_text_comes_back_unchanged(index: ChunkIndex, text: str) -> None:
    item = chunk(text, document_id=f"folder/{text}.md")
    index.add([item])

    where = SearchFilter(document_ids=[item.chunk.document_id])
    assert [hit.chunk for hit in index.search(text, item.vector, 1, where)] == [item.chunk]
    assert index.count(item.chunk.document_id) == 1
    assert index.revisions() == {(item.chunk.document_id, item.chunk.content_hash)}


def test_words_match_across_accents_and_in_unspaced_scripts(index: ChunkIndex) -> None:
    index.add([chunk("Un café noir", "fr.md", vector=unit(0))])
    index.add([chunk("保修期是五年。", "zh.md", vector=unit(0))])
    index.add([chunk("nothing", f"{i}.md", vector=unit(1)) for i in range(30)])

    for question, document_id in (("cafe", "fr.md"), ("保修", "zh.md")):
        hits = index.search(question, unit(1), limit=30)
        assert document_id in [hit.chunk.document_id for hit in hits], question


def test_long_document_ids(index: ChunkIndex) -> None:
    long = "/deep" * 819
    index.add([chunk("apple", long), chunk("apple", long + "r")])

    assert index.count(long) == 1
    index.remove(long)
    assert index.revisions() == {(long + "r", chunk("apple", long + "r").chunk.content_hash)}


def test_another_embedder_is_refused(open_index: Open) -> None:
    open_index().add([chunk("apple")])

    for other in (FakeEmbedder(fingerprint="other"), FakeEmbedder(dimension=32)):
        with pytest.raises(StoreError, match=r"Set `index\.embedder` to the model it was built"):
            open_index(embedder=other)
    assert open_index().count() == 1


def test_reopening_finds_everything(open_index: Open) -> None:
    open_index().add(chunk(f"apple {i}", f"{i}.md") for i in range(300))
    open_index().remove("7.md")

    index = open_index()

    assert index.count() == 299
    assert texts(index, "apple 123", limit=1) == ["apple 123"]
    assert texts(index, "apple", where=SearchFilter(document_ids=["7.md"])) == []


def test_a_vector_of_another_size_is_refused(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path / "index", EMBEDDER)
    with pytest.raises(StoreError, match="expected dim: 64, got 3"):
        index.add([chunk("apple", vector=np.ones(3, dtype=np.float32))])
    index.close()


def test_a_second_opener_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    first = EdgeIndex(tmp_path, EMBEDDER)
    first.add([chunk("apple")])
    files = sorted(tmp_path.rglob("*"))
    with pytest.raises(HomeInUseError, match="in use"):
        EdgeIndex(tmp_path, EMBEDDER)
    assert sorted(tmp_path.rglob("*")) == files
    first.close()
    first.close()

    second = EdgeIndex(tmp_path, EMBEDDER)
    assert second.count() == 1
    second.close()


def test_a_refused_embedder_leaves_the_index_unlocked(tmp_path: Path) -> None:
    EdgeIndex(tmp_path, EMBEDDER).close()
    with pytest.raises(StoreError):
        EdgeIndex(tmp_path, FakeEmbedder(fingerprint="other"))
    EdgeIndex(tmp_path, EMBEDDER).close()


def test_removed_chunks_leave_the_segment_files(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path / "index", EMBEDDER)
    index.add(chunk(f"secret{i:04}", "private.md" if i < 1000 else "b.md", i) for i in range(2000))
    index.remove("private.md")
    index.close()

    index = EdgeIndex(tmp_path / "index", EMBEDDER)
    assert texts(index, "secret1999", limit=1) == ["secret1999"]
    assert index.count() == 1000
    index.close()
    EdgeIndex(tmp_path / "index", EMBEDDER).close()
    segments = (tmp_path / "index" / "shard" / "segments").rglob("*.*")
    stored = b"".join(path.read_bytes() for path in segments if path.is_file())
    assert b"secret1999" in stored
    assert b"secret0007" not in stored


def test_threads_may_share_an_index(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path, EMBEDDER)

    def write_and_read(number: int) -> list[str]:
        index.add(chunk(f"thread{number} part{i}", f"{number}.md", i) for i in range(20))
        return texts(index, f"thread{number} part7", limit=1)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(write_and_read, range(12)))
    assert found == [[f"thread{number} part7"] for number in range(12)]
    index.close()


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "index").write_text("not a folder")
    with pytest.raises(StoreError, match="Cannot open the index"):
        EdgeIndex(tmp_path / "index", EMBEDDER)


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("precious")

    with pytest.raises(StoreError, match="holds no chunk index"):
        EdgeIndex(tmp_path, EMBEDDER)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]


def test_a_damaged_index_is_named(tmp_path: Path) -> None:
    EdgeIndex(tmp_path, EMBEDDER).close()
    (tmp_path / "shard" / "edge_config.json").write_text("{")

    with pytest.raises(StoreError, match="cannot be opened"):
        EdgeIndex(tmp_path, EMBEDDER)


_WRITER = """
import sys
from pathlib import Path
from hybridqa.protocols import IndexedChunk
from hybridqa.stores.edge_index import EdgeIndex
from hybridqa.testing import FakeEmbedder
from hybridqa.types import Chunk

embedder, first = FakeEmbedder(), int(sys.argv[2])
index = EdgeIndex(Path(sys.argv[1]), embedder)
for number in range(first, first + 100_000):
    texts = [f"document{number} part{start}" for start in range(20)]
    index.add(
        IndexedChunk(
            chunk=Chunk(
                document_id=str(number), content_hash="1", start=start, end=start + 1, text=text
            ),
            vector=vector,
        )
        for start, (text, vector) in enumerate(zip(texts, embedder.embed(texts)))
    )
    print(number, flush=True)
"""


def test_nothing_acknowledged_is_lost_when_killed(tmp_path: Path) -> None:
    """Kills a writing process twice, while it is writing into the same index."""
    acknowledged: list[int] = []
    for first in (0, 100_000):
        command = [sys.executable, "-c", _WRITER, str(tmp_path / "index"), str(first)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(12):
            acknowledged.append(int(writer.stdout.readline()))
        writer.kill()  # SIGKILL
        acknowledged += [int(line) for line in writer.stdout.read().splitlines()]
        assert writer.wait() == -signal.SIGKILL
        writer.stdout.close()

    index = EdgeIndex(tmp_path / "index", EMBEDDER)
    for number in acknowledged:
        assert index.count(str(number)) == 20
        assert texts(index, f"document{number} part7", 1) == [f"document{number} part7"]
    index.close()


def test_a_closed_index_says_so(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path, EMBEDDER)
    index.close()

    with pytest.raises(StoreError, match="closed"):
        index.count()


def test_a_server_that_does_not_answer_is_named() -> None:
    with pytest.raises(IndexUnavailableError, match=r"http://127\.0\.0\.1:1.*`index\.url`"):
        ServerIndex.connect("http://127.0.0.1:1", EMBEDDER, timeout_s=2)


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, StoreError, "refuses the API key"),
        (404, StoreError, "Check `index.url`"),
        (503, IndexUnavailableError, "Try again"),
    ],
)
def test_what_a_server_refuses_is_explained(
    status: int, error: type[StoreError], message: str
) -> None:
    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Refuse) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(error, match=message) as caught:
            ServerIndex.connect(f"http://127.0.0.1:{server.server_port}", EMBEDDER)
        server.shutdown()
    assert isinstance(caught.value, IndexUnavailableError) == (error is IndexUnavailableError)


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(StoreError, match=r"no Qdrant URL.*http://host:6333"):
        ServerIndex.connect("localhost:port:6333", EMBEDDER)


def test_a_foreign_collection_is_refused() -> None:
    client = QdrantClient(":memory:")
    client.create_collection("photos", vectors_config={})

    with pytest.raises(StoreError, match=r"another program.*index\.collection"):
        ServerIndex(client, EMBEDDER, "photos")
    client.close()


def test_closing_leaves_a_given_client_open() -> None:
    client = QdrantClient(":memory:")
    ServerIndex(client, EMBEDDER).close()

    assert ServerIndex(client, EMBEDDER).count() == 0
    client.close()
