"""Tenants and their homes."""

from pathlib import Path

import pytest

from hybridqa.errors import HomeInUseError, InputError
from hybridqa.service.tenants import Tenants, tenant_home
from tests.api.conftest import fake_config, fake_models


def opened(root: Path) -> Tenants:
    config = fake_config()
    return Tenants(root, config, fake_models(config))


def test_each_has_a_home_of_its_own_and_the_models_in_common(tmp_path: Path) -> None:
    tenants = opened(tmp_path)
    acme, other = tenants.get("acme"), tenants.get("other")

    assert acme.qa.home.path == tmp_path / "tenants" / "acme"
    assert tenants.get("default").qa.home.path == tmp_path
    assert acme.qa.base is other.qa.base
    assert acme.qa.config.index.tenant == "acme"
    assert tenants.get("acme") is acme
    assert tenants.known() == ["default", "acme", "other"]
    tenants.close()


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "A", "a b", "-a", "a-", "a" * 64, ".", "tenants/..", "a\0", "é"]
)
def test_no_name_leads_out_of_the_home(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be a tenant's name"):
        tenant_home(tmp_path, name)


def test_a_home_is_served_once(tmp_path: Path) -> None:
    tenants = opened(tmp_path)
    with pytest.raises(HomeInUseError):
        opened(tmp_path)
    tenants.close()
    opened(tmp_path).close()
