"""Admission."""

from contextlib import ExitStack

import pytest

from hybridqa.errors import OverloadedError
from hybridqa.service.gate import Gate


def test_a_tenant_cannot_take_all_places() -> None:
    gate = Gate("questions", limit=3, limit_by_tenant=2)
    with ExitStack() as inside:
        for _ in range(2):
            inside.enter_context(gate.entered("greedy"))
        with (
            pytest.raises(OverloadedError, match="2 questions of this tenant"),
            gate.entered("greedy"),
        ):
            pass
        inside.enter_context(gate.entered("modest"))
        with pytest.raises(OverloadedError, match="3 questions at work"), gate.entered("third"):
            pass
        assert gate.inside == 3

    assert gate.inside == 0


def test_a_place_is_given_back_after_an_error() -> None:
    gate = Gate("questions", limit=1, limit_by_tenant=1)
    for _ in range(3):
        with pytest.raises(ValueError, match="wrong"), gate.entered("a"):
            raise ValueError("wrong")

    assert gate.inside == 0
