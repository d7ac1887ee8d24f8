"""What laptop mode derives from limits is what the charts derive."""

import pytest

from trireme.errors import TriremeError
from trireme.local import limits

MEBIBYTE = 2**20


@pytest.mark.parametrize(
    ("text", "number"),
    [("500m", 0.5), ("2", 2), (2, 2), ("1.5Gi", 1.5 * 2**30), ("1e3", 1000), ("128M", 128e6), ("+1k", 1000)],
)
def test_quantities(text, number):
    assert limits.quantity(text, "memory") == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "-1", "1 Gi", "1Gb", "many", "1e", None])
def test_what_is_no_quantity_names_the_field(text):
    with pytest.raises(TriremeError, match=r"^resources\.limits\.memory: .* is not a positive quantity"):
        limits.quantity(text, "resources.limits.memory")


@pytest.mark.parametrize(
    ("given", "cpus", "memory"),
    [({}, 1, 2048), ({"cpu": "500m", "memory": "1Gi"}, 1, 1024), ({"cpu": "2900m", "memory": "1536Mi"}, 2, 1536)],
)
def test_limits(given, cpus, memory):
    assert limits.limits({"resources": {"limits": given}}) == limits.Limits(cpus, memory * MEBIBYTE)


@pytest.mark.parametrize(
    ("spec", "machine", "workers"),
    [
        ({}, 8, 1),
        ({"replicas": 3}, 2, 3),
        ({"replicas": 0}, 2, 1),
        ({"autoscaling": {"maxReplicas": 4}}, 8, 4),
        ({"autoscaling": {"maxReplicas": 4}}, 2, 2),
        ({"autoscaling": {"minReplicas": 0, "maxReplicas": 4}}, 1, 1),
        ({"autoscaling": {"minReplicas": 3, "maxReplicas": 4}}, 1, 3),
    ],
)
def test_as_many_workers_as_the_cluster_may_have_and_the_machine_has_cpus_for(spec, machine, workers):
    assert limits.size(spec, 1, machine) == workers


def test_figures_of_the_engines():
    # The charts' own tests have the same (tests/unit/charts/test_chart_derivation.py).
    assert limits.dask_memory(2048 * MEBIBYTE) == 1932735283
    assert limits.dask_memory(8192 * MEBIBYTE, 4) == 1932735283
    assert limits.spark_memory(2048 * MEBIBYTE) == 1194
    assert limits.celery_memory(1024 * MEBIBYTE, 2) == 475136
    assert (limits.spark_driver_memory(None), limits.spark_driver_memory("512Mi")) == (1024, 470)


@pytest.mark.parametrize(
    "derived",
    [
        lambda: limits.dask_memory(200 * MEBIBYTE),
        lambda: limits.dask_memory(511 * MEBIBYTE, 2),
        lambda: limits.spark_memory(1000 * MEBIBYTE),
        lambda: limits.celery_memory(200 * MEBIBYTE, 2),
    ],
)
def test_what_is_too_small_says_how_much_it_takes(derived):
    with pytest.raises(TriremeError, match=r"too small for .*: use at least \d+Mi"):
        derived()
