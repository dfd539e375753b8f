"""Fixtures: brokers of one test, in memory and on disk."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ottla import Consumer, Producer

_numbers = itertools.count()


@pytest.fixture
def memory() -> Iterator[str]:
    """The address of a broker in memory, which lives as long as the test."""
    servers = f"memory:test-{next(_numbers)}"
    keeper = Producer({"bootstrap.servers": servers})
    yield servers
    keeper.close()


@pytest.fixture(params=["memory", "file"])
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a broker: once in memory, once on disk."""
    address = f"memory:test-{next(_numbers)}" if request.param == "memory" else f"file://{tmp_path}"
    keeper = Producer({"bootstrap.servers": address})
    yield address
    keeper.close()


@pytest.fixture
def consumer_of() -> Iterator[Callable[..., Consumer]]:
    """Makes consumers that are closed after the test."""
    made: list[Consumer] = []

    def make(servers: str, **properties: Any) -> Consumer:
        config = {
            "bootstrap.servers": servers,
            "group.id": "g",
            "auto.offset.reset": "earliest",
            **{name.replace("__", "."): value for name, value in properties.items()},
        }
        made.append(Consumer(config))
        return made[-1]

    yield make
    for consumer in made:
        consumer.close()
