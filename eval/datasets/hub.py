"""Datasets of the Hugging Face hub, or folders of that layout, through the library `datasets`.

That library runs no code of a dataset from version 4 on; older ones are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hybridqa.errors import InputError
from hybridqa.eval.datasets.questions import Question, read_question

PREFIX = "hub:"
_ADDRESS = re.compile(r"(?P<id>[^:@]+)(?::(?P<config>[^:@]+))?(?:@(?P<split>.+))?")
_PREFERRED = ("validation", "dev", "test")


def read_hub(data: str, columns: Mapping[str, str]) -> list[Question]:
    """Read all rows of one split.

    Args:
        data: `hub:ID`, with `:config` and `@split` where needed. Without a split, the first of
            `validation`, `dev`, `test` that there is, else the first.
        columns: See `questions.read_question`.

    Raises:
        InputError: The address is none, `datasets` is missing, the hub cannot be reached, or a row
            is no question.
    """
    address = _ADDRESS.fullmatch(data.removeprefix(PREFIX))
    if address is None:
        raise InputError(
            f"`{data}` is no address of a dataset. Write `hub:ID`, `hub:ID:config` or "
            "`hub:ID:config@split`, e.g. `hub:rajpurkar/squad@validation`."
        )
    rows = _load(data, address["id"], address["config"], address["split"])
    classes = {name: kind for name, kind in rows.features.items() if hasattr(kind, "int2str")}
    questions = []
    for n, row in enumerate(rows.select_columns(_plain(rows.features)), 1):
        named = {name: _class_name(kind, row[name]) for name, kind in classes.items()}
        questions.append(read_question({**row, **named}, f"`{data}`, row {n}", columns))
    return questions


def _load(data: str, path: str, config: str | None, split: str | None) -> Any:
    try:
        import datasets
    except ImportError as exc:
        raise InputError(
            f"`{data}` needs the library `datasets`. Install it: `pip install 'hybridqa[eval]'`."
        ) from exc
    if int(datasets.__version__.partition(".")[0]) < 4:
        raise InputError(
            f"`{data}` needs `datasets` of version 4 at least, which runs no code of a dataset; "
            f"found {datasets.__version__}. Update it with `pip install -U 'datasets>=4'`."
        )
    try:
        if split is None:
            found = datasets.get_dataset_split_names(path, config)
            split = next((name for name in _PREFERRED if name in found), found[0])
        return datasets.load_dataset(path, config, split=split)
    except Exception as exc:  # network, hub, file formats: these share no error but this one
        raise InputError(
            f"`{data}` cannot be loaded: {' '.join(str(exc).split()) or type(exc).__name__}. Check "
            "the id, the config, the split and the network, or download it and give a file."
        ) from exc


def _plain(features: Mapping[str, Any]) -> list[str]:
    """Return the columns without pictures, sounds and the like, which would need decoding."""
    return [name for name, kind in features.items() if not hasattr(kind, "decode_example")]


def _class_name(kind: Any, value: int | None) -> str | None:
    """Return the name of a numbered class; `None` where it is unknown."""
    return None if value is None or value < 0 else str(kind.int2str(value))
