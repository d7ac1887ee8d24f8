"""Several processes in a worker pod of Dask's: each is a container with its share of the pod's limits."""

from collections.abc import Callable
from typing import Any

import pytest
from charting import NAME, Object, Render, limits
from helm_python import HelmRenderError, HelmValuesError
from test_chart_derivation import GI, capacity

Worker = Callable[..., Object]
GPU = "nvidia.com/gpu"


def containers(workload: Object) -> list[Object]:
    found: list[Object] = workload["spec"]["template"]["spec"]["containers"]
    return found


def flags(container: Object) -> dict[str, str]:
    parted = (word.removeprefix("--").partition("=") for word in container["command"] if "=" in word)
    return {name: value for name, _, value in parted}


@pytest.mark.parametrize(
    ("cpu", "memory", "values", "threads", "share"),
    [
        ("4", "8Gi", {"nworkers": 4}, 1, ("1000m", GI * 2)),
        ("4", "8Gi", {"nworkers": 2}, 2, ("2000m", GI * 4)),
        ("4", "8Gi", {"nworkers": 3}, 1, ("1333m", GI * 8 // 3)),
        ("500m", "2Gi", {"nworkers": 2}, 1, ("250m", GI)),
        ("2", "4Gi", {"nworkers": 2, "nthreads": 8}, 8, ("1000m", GI * 2)),
    ],
)
def test_shares(worker: Worker, cpu: str, memory: str, values: Object, threads: int, share: tuple[str, int]) -> None:
    found = worker("dask", {**limits(cpu=cpu, memory=memory), **values})
    number = values["nworkers"]
    assert len(containers(found)) == number
    for container in containers(found):
        assert container["resources"]["limits"] == {"cpu": share[0], "memory": str(share[1])}
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert flags(container)["nthreads"] == str(threads)
        assert int(flags(container)["memory-limit"]) == share[1] * 9 // 10
    assert capacity(found) == {"processes": number, "threads": threads, "memory": flags(container)["memory-limit"]}


def test_each_has_a_name_and_ports_of_its_own_and_drains(worker: Worker) -> None:
    found = containers(worker("dask", {**limits(cpu="32", memory="32Gi"), "nworkers": 32}))
    assert found[0]["name"] == "worker"
    assert [flags(one)["name"] for one in found] == [f"$(POD_NAME).{number}" for number in range(32)]
    ports = {}
    for one in found:
        of = {port["name"].rpartition("-")[0] or port["name"]: port for port in one["ports"]}
        assert flags(one)["worker-port"] == str(one["ports"][0]["containerPort"])
        assert flags(one)["dashboard-address"] == f":{one['ports'][1]['containerPort']}"
        http = one["ports"][1]["name"]
        for probe in (one["startupProbe"], one["readinessProbe"], one["lifecycle"]["preStop"]):
            assert probe["httpGet"]["port"] == http
        assert one["lifecycle"]["preStop"]["httpGet"]["path"] == "/trireme/drain"
        ports |= {port["name"]: port["containerPort"] for port in one["ports"]}
        assert len(of) == 2
    assert len(set(ports.values())) == len(ports) == 64


def test_one_thread_more_than_cpus_is_the_users_to_ask_for(worker: Worker) -> None:
    assert flags(containers(worker("dask", {**limits(cpu="1"), "nthreads": 6}))[0])["nthreads"] == "6"
    assert capacity(worker("dask", {**limits(cpu="1"), "nthreads": 6}))["threads"] == 6


def test_the_volume_for_spilling_is_shared_out(worker: Worker) -> None:
    found = worker("dask", {**limits(cpu="2", memory="2Gi"), "nworkers": 2, "spill": {"size": "10Gi"}})
    assert capacity(found)["spill"] == str(GI * 9 // 2)


def test_pieces_are_shared_out_whole(worker: Worker) -> None:
    def values(gpus: int) -> Object:
        return {"resources": {"limits": {"cpu": "2", "memory": "2Gi", GPU: gpus}}, "nworkers": 2}

    assert [one["resources"]["limits"][GPU] for one in containers(worker("dask", values(4)))] == ["2", "2"]
    with pytest.raises(
        HelmRenderError, match=r"resources\.\w+\.nvidia\.com/gpu: 3 can't be shared out among 2 processes"
    ):
        worker("dask", values(3))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"nworkers": 0}, "nworkers"),
        ({"nworkers": 33}, "nworkers"),
        ({"nthreads": -1}, "nthreads"),
        (
            {**limits(memory="1Gi"), "nworkers": 5},
            r"1Gi is too small for 5 Dask workers \(nworkers\): use at least 1280Mi",
        ),
    ],
)
def test_bad_values(worker: Worker, values: Object, why: str) -> None:
    with pytest.raises((HelmRenderError, HelmValuesError), match=why):
        worker("dask", values)


def test_prometheus_may_read_all_of_them(render: Render) -> None:
    policy: Any = render("dask", {"metrics": {"from": [{"podSelector": {}}]}})["NetworkPolicy", NAME]
    ports = policy["spec"]["ingress"][-1]["ports"]
    assert {"port": 8801, "endPort": 8831} in ports
    assert {"port": "http"} in ports
