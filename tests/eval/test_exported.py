"""The comparison with other engines; the engines themselves are started by `make` alone."""

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.exported import Asked, compared, main


def test_the_same_answers_are_counted_by_what_is_worn() -> None:
    asked = [
        Asked("right", "a", (1, 2), "at four"),
        Asked("another's", "b", (1, 2), "a lamp"),
        Asked("none", None, (1, 2), "no idea"),
        Asked("right", "b", (3,), "840 grams"),
    ]

    grid = compared("vllm", asked, [" at four", "a lamb", "no idea\n", "840"])

    assert list(grid.rows) == [
        ("right", "2", "1"),
        ("another's", "1", "0"),
        ("none", "1", "1"),
        ("all", "4", "2"),
    ]
    assert grid.caption.startswith("2 passages")


@pytest.mark.parametrize("arguments", [[], ["vllm"], ["sglang", "python"]])
def test_an_engine_that_is_not_known_is_refused(arguments: list[str]) -> None:
    with pytest.raises(InputError, match="Give `vllm` or `llamacpp`"):
        main(arguments)
