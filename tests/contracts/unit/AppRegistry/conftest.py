"""A registry with a day's notice, and an app in it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contracts.apps import Apps
from tests.contracts.stage import DAY_S


@pytest.fixture(scope="session")
def registry(deployer: Any) -> Any:
    from brownie import AppRegistry

    return deployer.deploy(AppRegistry, DAY_S)


@pytest.fixture(scope="session")
def apps(registry: Any, app_owner: Any) -> Apps:
    return Apps(registry, app_owner)


@pytest.fixture
def app_id(apps: Apps) -> str:
    """Published by `app_owner`, at the price of `apps.PRICE`."""
    return apps.publish()
