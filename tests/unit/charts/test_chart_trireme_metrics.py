"""What the operator's chart has for Prometheus and Grafana, and who may read metrics."""

import json
import re
from importlib import import_module

import helm_python
import pytest
import yaml
from charting import CHARTS, ENGINES, NAME, container, workloads
from helm_python import Chart
from prometheus_client import REGISTRY

from monitoring import asked, dashboard, metrics_of, panels, rules
from on_cluster import TOP
from trireme_operator.inventory import Inventory
from trireme_operator.store import Store

PROMETHEUS = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


@pytest.fixture(scope="module")
def installed():
    helm_python.disable_logging()
    chart = Chart.load(CHARTS / "trireme")

    def render(values=None):
        files = chart.render(values or {}, name="trireme", namespace="trireme-system")
        found = [item for path, text in files.items() if path.endswith(".yaml") for item in yaml.safe_load_all(text)]
        return {(item["kind"], item["metadata"]["name"]): item for item in found if item}

    return render


def enabled(*names, **more):
    return {"metrics": {name: {"enabled": True, **more} for name in names}}


def test_nothing_is_there_unless_asked_for(installed):
    kinds = {kind for kind, _ in installed()}
    assert not kinds & {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap", "Service"}


def test_the_operators_service_monitor_finds_its_service(installed):
    objects = installed(enabled("serviceMonitor", interval="10s", labels={"release": "prometheus"}))
    monitor = objects["ServiceMonitor", "trireme-operator"]
    service = objects["Service", "trireme-operator"]
    deployment = objects["Deployment", "trireme-operator"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert (endpoint["interval"], endpoint["honorLabels"]) == ("10s", True)


@pytest.mark.parametrize(("namespace", "where"), [("", {"any": True}), ("team", {"matchNames": ["team"]})])
def test_pod_monitors_find_each_engines_pods(installed, render, namespace, where):
    objects = installed({**enabled("podMonitor"), "namespace": namespace})
    monitors = {item["metadata"]["name"]: item["spec"] for (kind, _), item in objects.items() if kind == "PodMonitor"}
    drivers = {"http-ui"}
    for monitor in monitors.values():
        assert monitor["namespaceSelector"] == where
    for engine in ENGINES:
        values = {"broker": {"url": "amqp://a"}, "monitor": {"enabled": True}} if engine == "celery" else {}
        for item in workloads(render(engine, values)):
            component = item["metadata"]["name"].removeprefix(f"{NAME}-")
            if engine == "celery" and component != "monitor":
                continue
            monitor = monitors[f"trireme-{engine}-{component}"]
            labels = item["spec"]["template"]["metadata"]["labels"]
            assert monitor["selector"]["matchLabels"].items() <= labels.items()
            ports = {port["name"] for port in container(item)["ports"]}
            for endpoint in monitor["podMetricsEndpoints"]:
                kept = [rule["regex"] for rule in endpoint["relabelings"] if rule.get("action") == "keep"]
                (port,) = [endpoint["port"]] if "port" in endpoint else kept
                assert any(re.fullmatch(port, name) for name in ports)
    engines = import_module("trireme_operator.engines")
    assert {port["name"] for port in engines.ENGINES["spark"].driver_ports} == drivers
    assert {endpoint["port"] for endpoint in monitors["trireme-spark-driver"]["podMetricsEndpoints"]} == drivers


def test_the_rules_link_to_their_runbooks(installed):
    url = "https://docs.example/runbooks.md"
    (group, *_) = installed(enabled("prometheusRule", runbookUrl=url))["PrometheusRule", "trireme"]["spec"]["groups"]
    assert group["rules"][0]["annotations"]["runbook_url"] == f"{url}#triremeoperatordown"
    # Prometheus' own templates arrive as they are.
    assert "{{ $labels.kind }}" in group["rules"][1]["annotations"]["summary"]


def test_every_alert_has_a_runbook_and_says_what_it_is_about():
    sections = re.findall(r"^## (\w+)$", (TOP / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    assert list(rules()) == sections, "docs/runbooks.md: one section for each alert, in the same order"
    for rule in rules().values():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_the_dashboard_is_found_by_grafanas_sidecar(installed):
    labels = {"grafana_dashboard": "1", "team": "platform"}
    item = installed(enabled("dashboard", labels=labels))["ConfigMap", "trireme-dashboard"]
    assert labels.items() <= item["metadata"]["labels"].items()
    assert json.loads(item["data"]["trireme.json"]) == dashboard()


def test_the_dashboard_is_well_formed():
    boxes = [panel["gridPos"] for panel in dashboard()["panels"]]
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))
    assert all(box["x"] + box["w"] <= 24 for box in boxes)
    for title, queries in panels().items():
        assert all(metrics_of(query) for query in queries), title


def test_the_operators_metrics_that_are_asked_for_are_there():
    """Those of the engines are compared with what they serve in tests/e2e/test_monitoring.py."""
    for module in ("metrics", "autoscale.gauges"):
        import_module(f"trireme_operator.{module}")
    known = {sample for family in REGISTRY.collect() for sample in (family.name, f"{family.name}_total")} | {
        f"{family.name}_{end}" for family in REGISTRY.collect() for end in ("bucket", "count", "sum")
    }
    known |= {family.name for family in Inventory(Store(), lambda: True).describe()}
    ours = {name for name in asked() if name.startswith(("trireme_", "process_"))}
    assert ours <= known


def test_every_metric_of_the_operator_is_documented():
    for module in ("metrics", "autoscale.gauges"):
        import_module(f"trireme_operator.{module}")
    families = [*REGISTRY.collect(), *Inventory(Store(), lambda: True).describe()]
    served = {f"{one.name}_total" if one.type == "counter" else one.name for one in families}
    documented = re.findall(r"`(trireme_\w+)`", (TOP / "docs" / "monitoring.md").read_text())
    assert set(documented) == {name for name in served if name.startswith("trireme_")}


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (dask_x) (rate(trireme_a_total{process_b="c"}[5m])) > 0', {"trireme_a_total"}),
        ("a / ignoring (celery_x) dask_y", {"dask_y"}),
    ],
)
def test_names_in_promql(expression, names):
    assert metrics_of(expression) == names


@pytest.mark.parametrize("engine", ENGINES)
def test_prometheus_may_connect_only_if_it_is_told_of(render, engine):
    policies = [item for (kind, _), item in render(engine).items() if kind == "NetworkPolicy"]
    assert not any(rule.get("from") == PROMETHEUS for policy in policies for rule in policy["spec"]["ingress"])
    opened = [
        item for (kind, _), item in render(engine, {"metrics": {"from": PROMETHEUS}}).items() if kind == "NetworkPolicy"
    ]
    for policy in opened:
        (rule,) = [rule for rule in policy["spec"]["ingress"] if rule["from"] == PROMETHEUS]
        assert rule["ports"]


def test_the_operator_is_told_who_may_read_metrics(installed):
    deployment = installed({"metrics": {"from": PROMETHEUS}})["Deployment", "trireme-operator"]
    variables = {item["name"]: item.get("value") for item in container(deployment)["env"]}
    assert json.loads(variables["TRIREME_METRICS_FROM"]) == PROMETHEUS
