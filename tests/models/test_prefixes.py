"""Beginnings of prompts: found, bounded, apart."""

import torch

from hybridqa.models.prefixes import Prefix, PrefixCache

KEY = ("a tenant", ("reader",))
SIZE = 2 * 2 * 1 * 4 * 4
"""Bytes of one token of `prefix`."""


def prefix(*ids: int) -> Prefix:
    states = torch.tensor(ids, dtype=torch.float32)[None, :, None].expand(1, len(ids), 4)
    return Prefix(ids, [(states.clone(), -states.clone()) for _ in range(2)])


def test_the_longest_common_beginning_is_found() -> None:
    cache = PrefixCache(10_000, min_tokens=2)
    cache.put(KEY, prefix(1, 2, 3, 4, 5))
    cache.put(KEY, prefix(1, 2, 9, 9, 9))

    found = cache.longest(KEY, [1, 2, 3, 4, 8])

    assert found is not None
    assert found.ids == (1, 2, 3, 4)
    assert found.layers[1][0][0, :, 0].tolist() == [1, 2, 3, 4]
    assert found.layers[1][1][0, :, 0].tolist() == [-1, -2, -3, -4]


def test_a_prompt_known_as_a_whole_still_has_its_last_token_to_read() -> None:
    cache = PrefixCache(10_000, min_tokens=2)
    cache.put(KEY, prefix(1, 2, 3))

    found = cache.longest(KEY, [1, 2, 3])

    assert found is not None
    assert found.ids == (1, 2)


def test_nothing_is_shared_across_realms_or_adapters() -> None:
    cache = PrefixCache(10_000, min_tokens=2)
    cache.put(KEY, prefix(1, 2, 3, 4))

    assert cache.longest(("another tenant", KEY[1]), [1, 2, 3, 4]) is None
    assert cache.longest((KEY[0], ("reader", "document")), [1, 2, 3, 4]) is None


def test_short_beginnings_are_not_worth_it() -> None:
    cache = PrefixCache(10_000, min_tokens=3)
    cache.put(KEY, prefix(1, 2, 3, 4))
    cache.put(KEY, prefix(7, 7))

    assert cache.longest(KEY, [1, 2, 8, 8]) is None
    assert cache.longest(KEY, [7, 7, 7]) is None
    assert cache.longest(KEY, [1, 2, 3, 8]) is not None


def test_the_prompts_used_last_are_kept() -> None:
    cache = PrefixCache(4 * 2 * SIZE, min_tokens=2)
    cache.put(KEY, prefix(1, 1, 1, 1))
    cache.put(KEY, prefix(2, 2, 2, 2))
    assert cache.longest(KEY, [1, 1, 1, 1])
    cache.put(KEY, prefix(3, 3, 3, 3))

    assert cache.used_bytes == 4 * 2 * SIZE
    assert cache.longest(KEY, [1, 1, 1, 1])
    assert cache.longest(KEY, [2, 2, 2, 2]) is None
    assert cache.longest(KEY, [3, 3, 3, 3])


def test_what_is_almost_known_is_not_kept_twice() -> None:
    cache = PrefixCache(10_000, min_tokens=2)
    cache.put(KEY, prefix(1, 2, 3, 4))
    before = cache.used_bytes
    cache.put(KEY, prefix(1, 2, 3, 5))

    assert cache.used_bytes == before


def test_a_realm_is_forgotten_alone() -> None:
    cache = PrefixCache(10_000, min_tokens=2)
    other = ("another tenant", KEY[1])
    cache.put(KEY, prefix(1, 2, 3, 4))
    cache.put(other, prefix(1, 2, 3, 4))

    cache.forget(KEY[0])

    assert cache.longest(KEY, [1, 2, 3, 4]) is None
    assert cache.longest(other, [1, 2, 3, 4]) is not None
    assert cache.used_bytes == 4 * SIZE
