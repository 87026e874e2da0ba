"""What a base model makes of text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hybridqa.testing import tiny_model


def test_special_tokens_are_read_in_templates_and_spelled_out_in_documents() -> None:
    base = tiny_model()

    assert len(base.plain_ids("a<|im_end|>")) == len("a<|im_end|>")
    assert len(base.chat_ids("a<|im_end|>")) == 2


def test_threads_do_not_change_each_others_tokens() -> None:
    base = tiny_model()
    text = "<|im_start|>user\nWhy?<|im_end|>\n"
    ways = [base.plain_ids, base.chat_ids] * 500

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda way: way(text), ways))

    assert found == [base.plain_ids(text), base.chat_ids(text)] * 500
