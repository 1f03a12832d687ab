"""Alertmanager's settings, and the manifests for the Prometheus Operator."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from shipping.prometheus_rule import ALERTS, RULE, rule_of
from tests.deploy.files import KUBERNETES, ROOT, Mapping, named, pod
from tests.support.promtool import amtool

MONITORING = KUBERNETES / "monitoring"
# Of its custom resource definitions, version v1, without the descriptions.
SCHEMAS = json.loads(
    (Path(__file__).parent / "schemas/prometheus-operator-0.93.0.json").read_text()
)
OBJECTS: list[Mapping] = [
    one
    for name in yaml.safe_load((MONITORING / "kustomization.yaml").read_text())["resources"]
    for one in yaml.safe_load_all((MONITORING / name).read_text())
]
MONITORS = {one["metadata"]["name"]: one for one in OBJECTS if one["kind"] == "PodMonitor"}
ALERTMANAGER = ROOT / "deploy/alertmanager/alertmanager.yml"
RULES = [
    rule
    for group in yaml.safe_load((ROOT / ALERTS).read_text())["groups"]
    for rule in group["rules"]
]


def strict(schema: Any) -> Any:
    """The schema, with fields that it does not name as mistakes: Kubernetes drops them."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: strict(one) for name, one in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        found["additionalProperties"] = False
    return found


def errors(manifest: Mapping) -> list[str]:
    """What is wrong with it by the schema of its kind."""
    schema = strict(SCHEMAS[manifest["kind"]])
    # Left to Kubernetes by every definition.
    schema["properties"]["metadata"].pop("additionalProperties", None)
    return [error.message for error in Draft7Validator(schema).iter_errors(manifest)]


@pytest.mark.parametrize("manifest", OBJECTS, ids=lambda one: str(one["kind"]))
def test_it_is_valid_by_the_schema_of_the_operator(manifest: Mapping) -> None:
    assert manifest["apiVersion"] == "monitoring.coreos.com/v1"
    assert errors(manifest) == []


def test_the_schemas_would_find_a_mistake() -> None:
    wrong = json.loads(json.dumps(MONITORS["billing-stream-worker"]))
    wrong["spec"]["podMetricsEndpoints"][0]["intervall"] = "15s"
    assert errors(wrong) != []


def test_the_rule_has_the_alerts_of_prometheus() -> None:
    written = (ROOT / RULE).read_text()
    assert written == rule_of((ROOT / ALERTS).read_text()), "run python -m shipping.prometheus_rule"
    (rule,) = [one for one in OBJECTS if one["kind"] == "PrometheusRule"]
    assert rule["spec"] == yaml.safe_load((ROOT / ALERTS).read_text())


@pytest.mark.parametrize(
    ("kind", "name", "job"),
    [
        ("StatefulSet", "billing-stream-worker", "billing-worker"),
        ("Deployment", "billing-stream-projector", "billing-projector"),
    ],
)
def test_a_pod_monitor_finds_its_pods_and_gives_the_job_of_the_alerts(
    kind: str, name: str, job: str
) -> None:
    workload, spec = named(kind, name), MONITORS[name]["spec"]
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = spec["podMetricsEndpoints"]
    (container,) = pod(workload)["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    annotations = workload["spec"]["template"]["metadata"]["annotations"]
    assert str(ports[endpoint["port"]]) == annotations["prometheus.io/port"]
    assert endpoint["path"] == annotations["prometheus.io/path"]
    (relabeling,) = endpoint["relabelings"]
    assert relabeling == {"targetLabel": "job", "replacement": job}
    jobs = set(re.findall(r'job="([a-z-]+)"', " ".join(rule["expr"] for rule in RULES)))
    assert job in jobs


def test_alertmanager_takes_its_settings() -> None:
    done = subprocess.run(
        [amtool(), "check-config", ALERTMANAGER], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_inhibited_alerts_and_their_causes_are_there() -> None:
    names = {rule["alert"] for rule in RULES}
    named_ones = set(re.findall(r"Billing\w+", ALERTMANAGER.read_text()))
    assert named_ones <= names
    assert "BillingKafkaAway" in named_ones
    for one in yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"]:
        source, target = (" ".join(one[f"{side}_matchers"]) for side in ("source", "target"))
        assert not set(re.findall(r"Billing\w+", source)) & set(re.findall(r"Billing\w+", target))
