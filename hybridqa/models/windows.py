"""Passages of one prompt are read apart by a reader that was trained so.

Each sees the prompt's beginning and itself; the question, which comes last, sees them all. So what
the model makes of a passage depends on no other, and is kept and used again beside any others, in
any order. All passages begin at the same position, and the question goes on after the longest:
Parallel Context Windows, Ratner et al. 2023 (arXiv 2212.10947); that such pieces can be kept:
Prompt Cache, Gim et al. 2023 (arXiv 2311.04934).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from hybridqa.models.decoding import Batch, Row
from hybridqa.models.prefixes import Key, Prefix, PrefixCache, key_of

_NOT_A_TOKEN = -1
_PREFILL_TOKENS = 1024
"""Read at once: more would keep the others waiting without being any faster."""
_PADDING = 0.2
"""Share of a row that may be padding."""
_FREE_PADDING = 64
"""Tokens of padding that cost less than running the model once more."""

Open = Callable[[Sequence[Row], Sequence[Prefix | None]], Batch]


def known_beginnings(
    rows: Sequence[Row], prefixes: PrefixCache, open_batch: Open
) -> list[Prefix | None]:
    """Return what is known of each row's prompt; windows that nobody has read yet are read now.

    Args:
        rows: New.
        prefixes: What is known already; windows are kept there, too.
        open_batch: Lays out rows, of whose prompts beginnings are known.
    """
    read: dict[tuple[Key, Sequence[int]], Prefix] = {}
    missing: list[Row] = []
    partly: list[Prefix | None] = []
    for row in rows:
        for window in row.windows:
            key = key_of(row.asked), tuple(window)
            if key in read or any(key == (key_of(m.asked), tuple(m.prompt)) for m in missing):
                continue
            found = prefixes.longest(key[0], [*window, _NOT_A_TOKEN])
            if found and len(found.ids) == len(window):
                read[key] = found
            else:
                missing.append(Row(row.asked, list(window)))
                partly.append(found)
    for row, prefix in zip(missing, _read(missing, partly, open_batch), strict=True):
        key = key_of(row.asked), tuple(row.prompt)
        read[key] = prefix
        prefixes.put(key[0], prefix)
    return [
        _joined([read[key_of(row.asked), tuple(window)] for window in row.windows], row.beginning)
        if row.windows
        else prefixes.longest(key_of(row.asked), row.prompt)
        for row in rows
    ]


def begun(
    rows: Sequence[Row], known: Sequence[Prefix | None], open_batch: Open
) -> list[Prefix | None]:
    """Return what is known of each row's prompt once all but its last token is read.

    For rows of very different lengths that must be decoded together: side by side, padding the
    short ones would cost as much as reading long ones. Only windows are left as they are.

    Args:
        rows: New.
        known: Beginnings of their prompts.
        open_batch: Lays out rows, of whose prompts beginnings are `known`.
    """
    found = list(known)
    unread = [
        n
        for n, (row, prefix) in enumerate(zip(rows, known, strict=True))
        if not row.windows and len(row.prompt) - (len(prefix.ids) if prefix else 0) > 1
    ]
    heads = [Row(rows[n].asked, rows[n].prompt[:-1]) for n in unread]
    read = _read(heads, [known[n] for n in unread], open_batch)
    for n, prefix in zip(unread, read, strict=True):
        found[n] = prefix
    return found


def _read(rows: Sequence[Row], known: Sequence[Prefix | None], open_batch: Open) -> list[Prefix]:
    """Return what the model makes of each row's prompt; those are read together that are alike."""
    read: dict[int, Prefix] = {}
    for group in groups([row.prompt for row in rows], known):
        batch = open_batch([rows[n] for n in group], [known[n] for n in group])
        batch.read(keep=1)
        read.update((n, batch.prefix(place)) for place, n in enumerate(group))
    return [read[n] for n in range(len(rows))]


def _joined(windows: Sequence[Prefix], beginning: int) -> Prefix:
    """Return windows one after the other, their common first tokens once."""
    first, *others = windows
    layers = [
        tuple(
            torch.cat(
                [first.layers[n][side]] + [w.layers[n][side][:, beginning:] for w in others], 1
            )
            for side in (0, 1)
        )
        for n in range(len(first.layers))
    ]
    ids = [*first.ids, *(token for window in others for token in window.ids[beginning:])]
    longest = max(len(window.ids) for window in windows)
    return Prefix(ids, [(keys, values) for keys, values in layers], longest)


def groups(prompts: Sequence[Sequence[int]], known: Sequence[Prefix | None]) -> Iterator[list[int]]:
    """Yield the numbers of all prompts, those together that need little padding."""
    left = list(range(len(prompts)))
    while left:
        group = [left[n] for n in alike([prompts[n] for n in left], [known[n] for n in left])]
        yield group
        left = [n for n in left if n not in group]


def alike(prompts: Sequence[Sequence[int]], known: Sequence[Prefix | None]) -> list[int]:
    """Return the numbers of the first prompt and of those that need little padding beside it."""
    new = [
        len(prompt) - (len(prefix.ids) if prefix else 0)
        for prompt, prefix in zip(prompts, known, strict=True)
    ]
    order = sorted(range(len(new)), key=lambda n: abs(new[n] - new[0]))
    group: list[int] = []
    for n in order:
        lengths = [new[m] for m in [*group, n]]
        if group and (
            max(lengths) * len(lengths) > _PREFILL_TOKENS
            or max(lengths) - min(lengths) > max(max(lengths) * _PADDING, _FREE_PADDING)
        ):
            break
        group.append(n)
    return group
