from __future__ import annotations

from collections.abc import Callable

import pytest

from tallystick_backend.chain import Chain
from tallystick_backend.clock import ManualClock
from tallystick_backend.index.follow import Index, IndexSettings
from tallystick_backend.index.start import followed
from tallystick_backend.store.session import Database
from tests.backend.index.node import DEPLOYMENT, Node

IndexOf = Callable[..., Index]


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def index_of(clock: ManualClock) -> IndexOf:
    """An index of a node into a database."""

    def make(node: Node, database: Database, **settings: int) -> Index:
        chain = Chain(node, followed(DEPLOYMENT))
        return Index(database, chain, DEPLOYMENT, clock, IndexSettings(**settings))

    return make


@pytest.fixture
def index(index_of: IndexOf, node: Node, database: Database) -> Index:
    return index_of(node, database)
