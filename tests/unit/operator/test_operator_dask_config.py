"""Keys of a Dask configuration that Dask does not know."""

import pytest
from operating import charts

from trireme_operator.api import Object
from trireme_operator.engines import dask_config
from trireme_operator.engines.dask_config import unknown

SCHEMA = charts.config_schema("dask")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, []),
        ({"distributed": {"worker": {"memory": {"target": 0.5}}}}, []),
        # Dask takes either.
        ({"distributed": {"worker": {"memory": {"max_spill": "1GB"}}}}, []),
        # Names of the user's own.
        ({"distributed": {"scheduler": {"default-task-durations": {"mine": "1s"}}}}, []),
        ({"distributed": {"worker": {"resources": {"GPU": 1}}}}, []),
        ({"array": {"slicing": {"split-large-chunks": True}}, "dataframe": {"backend": "pandas"}}, []),
        # Other libraries'.
        ({"logging": {"distributed": "info"}, "dask-ms": {"a": 1}, "worker": {"x": 1}}, []),
        (
            {"distributed": {"worker": {"memory": {"tarjet": 0.5}}}},
            ["distributed.worker.memory.tarjet: Dask has no such key; did you mean distributed.worker.memory.target?"],
        ),
        (
            {"distribted": {"worker": {"memory": {"target": 0.5}}}},
            ["distribted: Dask has no such key; did you mean distributed?"],
        ),
        (
            {"distributed": {"worker-saturation": 1.1}},
            [
                "distributed.worker-saturation: Dask has no such key; did you mean"
                " distributed.scheduler.worker-saturation?"
            ],
        ),
        (
            {"distributed.worker.memory.target": 0.5},
            ["distributed.worker.memory.target: write it as nested keys, as dask.yaml has them, not with dots"],
        ),
        ({"distributed": {"xyzzy": 1}}, ["distributed.xyzzy: Dask has no such key"]),
        ({"distributed": {"worker": {3: 1}}}, ["distributed.worker.3: Dask has no such key"]),
    ],
)
def test_unknown(config: Object, told: list[str]) -> None:
    assert unknown(config, SCHEMA) == told


def test_the_first_few_are_told() -> None:
    assert len(unknown({"distributed": {f"xyzzy{number}": 1 for number in range(100)}}, SCHEMA)) == 5


def test_no_more_is_done_than_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def likely(name: str, known: list[str]) -> bool:
        asked.append(name)
        return False

    monkeypatch.setattr(dask_config, "_likely", likely)
    assert unknown({f"library{number}": {} for number in range(10_000)}, SCHEMA) == []
    assert len(asked) == 100
    told: list[tuple[str, ...]] = []

    def tell(path: tuple[str, ...], known: list[str]) -> str:
        told.append(path)
        return ""

    monkeypatch.setattr(dask_config, "_told", tell)
    unknown({"distributed": {f"xyzzy{number}": 1 for number in range(100)}}, SCHEMA)
    assert len(told) == 5


def test_a_long_key_is_told_by_its_beginning() -> None:
    (found,) = unknown({"distributed": {"x" * 100_000: 1}}, SCHEMA)
    assert found == f"distributed.{'x' * 100}: Dask has no such key"
    assert max(map(len, dask_config._names(SCHEMA))) < 100
