"""Further groups of workers: what a release renders that joins another one's cluster."""

import pytest
from charting import ENGINES, NAME, Object, Render, container, environment, limits
from helm_python import HelmRenderError, HelmValuesError

GROUP = "big"
OWN = {"app.kubernetes.io/component": "group-worker", "trireme.dev/group": GROUP}
ELSEWHERE = {"broker": {"url": "amqp://a"}, "monitor": {"demand": True}}
# What only the cluster has.
WHOLE: Object = {"monitor": {"enabled": True}, "beat": {"enabled": True}, "flower": {"enabled": True}}

every_engine = pytest.mark.parametrize("engine", ENGINES)
every_variant = pytest.mark.parametrize(
    ("engine", "values"), [*((engine, {}) for engine in ENGINES), ("celery", ELSEWHERE)]
)


@every_variant
def test_only_what_the_workers_need(render: Render, engine: str, values: Object) -> None:
    """All else is the cluster's; a template that a group has no use for has to leave it out."""
    expected = {
        ("Deployment", "big-worker"),
        ("PodDisruptionBudget", "big-worker"),
        ("ConfigMap", "big-conf"),
        ("ConfigMap", "big-scripts"),
    }
    if values:
        expected |= {("Deployment", "big-monitor"), ("Service", "big-monitor")}
    assert render(engine, {**values, "cluster": NAME}, GROUP).keys() == expected
    if engine == "celery":
        whole = {**WHOLE, "monitor": {**WHOLE["monitor"], **values.get("monitor", {})}}
        assert render(engine, {**values, **whole, "cluster": NAME}, GROUP).keys() == expected


@every_variant
def test_labels_join_the_cluster_and_no_selector_mixes_them_up(render: Render, engine: str, values: Object) -> None:
    own, group = render(engine, values), render(engine, {**values, "cluster": NAME}, GROUP)
    for item in group.values():
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == NAME
        assert labels["trireme.dev/group"] == GROUP

    def pods(objects: Object) -> list[Object]:
        return [
            item["spec"]["template"]["metadata"]["labels"] for (kind, _), item in objects.items() if kind in POD_MAKERS
        ]

    def selectors(objects: Object) -> list[Object]:
        found = [
            item["spec"].get("selector", {})
            for (kind, _), item in objects.items()
            if kind != "NetworkPolicy" and "spec" in item
        ]
        return [one.get("matchLabels", one) for one in found]

    for mine, others in ((own, group), (group, own)):
        for selector in selectors(mine):
            assert any(selector.items() <= labels.items() for labels in pods(mine))
            assert not any(selector.items() <= labels.items() for labels in pods(others))
    policy = own["NetworkPolicy", NAME]["spec"]["podSelector"]["matchLabels"]
    assert all(policy.items() <= labels.items() for labels in pods(group))
    assert OWN.items() <= group["Deployment", "big-worker"]["spec"]["template"]["metadata"]["labels"].items()


POD_MAKERS = ("Deployment", "StatefulSet")


@every_engine
def test_the_workers_are_the_clusters_own_but_for_what_is_set(render: Render, engine: str) -> None:
    password = {"auth": {"existingSecret": f"{NAME}-auth"}} if engine == "celery" else {}
    own = render(engine, password)["Deployment", f"{NAME}-worker"]
    group = render(engine, {"cluster": NAME}, GROUP)["Deployment", "big-worker"]
    assert environment(group) == {**environment(own), "TRIREME_GROUP": GROUP}
    assert {**container(group), "env": []} == {**container(own), "env": []}
    assert group["metadata"]["annotations"] == own["metadata"]["annotations"]
    sized = {"cluster": NAME, **limits("2", "4Gi"), "nodeSelector": {"disk": "fast"}}
    other = render(engine, sized, GROUP)["Deployment", "big-worker"]
    assert other["metadata"]["annotations"] != own["metadata"]["annotations"]
    assert other["spec"]["template"]["spec"]["nodeSelector"] == {"disk": "fast"}


@every_engine
def test_a_group_is_not_its_own_cluster(render: Render, engine: str) -> None:
    with pytest.raises(HelmRenderError, match='cluster "numbers": a group needs another release name'):
        render(engine, {"cluster": NAME})
    with pytest.raises(HelmValuesError, match="'/cluster': 'No' does not match"):
        render(engine, {"cluster": "No"}, GROUP)


def test_dask_workers_offer_abstract_resources(render: Render) -> None:
    offers = {"GPU": 1, "MEMORY": 70e9, "SSD-2": 0.5}
    workers = render("dask", {"cluster": NAME, "workerResources": offers}, GROUP)["Deployment", "big-worker"]
    (option,) = [word for word in container(workers)["command"] if word.startswith("--resources=")]
    # As `dask worker` reads it.
    pairs = dict(pair.split("=") for pair in option.removeprefix("--resources=").replace(",", " ").split())
    assert {name: float(amount) for name, amount in pairs.items()} == offers


@pytest.mark.parametrize("offers", [{"GPU": -1}, {"GPU": "1"}, {"a b": 1}, {"a=b": 1}])
def test_abstract_resources_that_dask_could_not_read_are_refused(render: Render, offers: Object) -> None:
    with pytest.raises(HelmValuesError, match="'/workerResources"):
        render("dask", {"workerResources": offers})


def test_celery_workers_may_leave_queues_to_others(render: Render) -> None:
    values = {**ELSEWHERE, "queues": ["a", "b"], "excludeQueues": ["b", "c"]}
    objects = render("celery", values)
    for component in ("worker", "monitor"):
        command = container(objects["Deployment", f"{NAME}-{component}"])["command"]
        assert command[-2:] == ["--queues=a,b", "--exclude-queues=b,c"]
