"""The manifests, by the schemas of Kubernetes and by what we know of the service."""

import os
import re
from importlib.resources import files as package_files
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic import SecretStr

from billing_stream.config.background_settings import BackgroundSettings
from billing_stream.config.listener_settings import Listener
from billing_stream.config.settings import Settings
from billing_stream.deliver.service import END_SECONDS_MAX as DELIVER_STOPS
from billing_stream.faust_adapter.faust_app import static_member
from billing_stream.projector.service import END_SECONDS_MAX as PROJECTOR_STOPS
from billing_stream.web.health import HEALTH_PATH, READY_PATH
from billing_stream.worker import stop_seconds
from tests.deploy.files import (
    KUBERNETES,
    REQUIRED,
    config_map,
    known_settings,
    kustomization,
    manifests,
    named,
    of_kind,
    pod,
    secrets,
    settings_of,
    workloads,
)
from tests.support.production import secret as generated

# The oldest and the newest that the manifests are for.
VERSIONS = ("1.31", "1.37")
WORKER = named("StatefulSet", "billing-stream-worker")
PROJECTOR = named("Deployment", "billing-stream-projector")
DELIVER = named("Deployment", "billing-stream-deliver")


def ids(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def container(workload: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod(workload)["containers"]
    assert isinstance(found, dict)
    return found


def settings() -> Settings:
    return settings_of({**config_map(), **secrets_filled(WORKER)})


def secret_of(workload: dict[str, Any]) -> dict[str, str]:
    """The Secret that the pods of a workload read, the only one that they can."""
    _, reference = container(workload)["envFrom"]
    found: dict[str, str] = secrets()[reference["secretRef"]["name"]]["stringData"]
    return found


def secrets_filled(workload: dict[str, Any]) -> dict[str, str]:
    return {name: generated(name) for name in secret_of(workload)}


def ports_of(rule: dict[str, Any]) -> list[tuple[int, int]]:
    return [(one["port"], one.get("endPort", one["port"])) for one in rule["ports"]]


def policy_of(component: str) -> dict[str, Any]:
    found: dict[str, Any] = named("NetworkPolicy", f"billing-stream-{component}")["spec"]
    return found


def sources(policy: dict[str, Any], port: int) -> list[dict[str, Any]]:
    """Who may connect to the port."""
    rules = [rule for rule in policy["ingress"] if (port, port) in ports_of(rule)]
    return [one for rule in rules for one in rule["from"]]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", [*manifests(), *secrets().values()], ids=ids)
def test_it_is_valid_by_the_schema_of_kubernetes(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_would_find_a_mistake() -> None:
    wrong = named("StatefulSet", "billing-stream-worker")
    pod(wrong)["terminationGracePeriodSecond"] = 60
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_every_file_is_in_the_kustomization_or_an_example() -> None:
    written = {path.name for path in KUBERNETES.glob("*.yaml")}
    assert written == {
        *kustomization()["resources"],
        "kustomization.yaml",
        "secret.example.yaml",
    }
    monitoring = KUBERNETES / "monitoring"
    own = yaml.safe_load((monitoring / "kustomization.yaml").read_text())["resources"]
    assert {path.name for path in monitoring.iterdir()} == {*own, "kustomization.yaml"}
    assert all("namespace" not in one["metadata"] for one in manifests())


def test_every_variable_is_a_setting_and_all_together_are_right() -> None:
    assert set(config_map()) <= known_settings()
    assert {env["name"] for env in container(WORKER)["env"]} <= known_settings()
    assert set(REQUIRED) <= {*config_map(), *secret_of(WORKER)}
    assert settings().app_env == "production"
    for workload in workloads():
        assert set(secret_of(workload)) <= known_settings()


@pytest.mark.parametrize("workload", workloads(), ids=ids)
def test_a_process_starts_with_its_own_secret_alone(
    workload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {**config_map(), **secrets_filled(workload)})
    monkeypatch.setenv("BILLING_ENV_FILE", "")
    kind = Settings if workload == WORKER else BackgroundSettings
    assert kind.from_env().app_env == "production"


def test_a_process_has_no_secret_of_another() -> None:
    assert {ids(one): set(secret_of(one)) for one in workloads()} == {
        "StatefulSet/billing-stream-worker": {
            *("CLIENT_JWT_SECRET", "INTERNAL_JWT_SECRET", "DATABASE_URL"),
            *("SHOPIFY_API_KEY", "SHOPIFY_API_SECRET"),
        },
        "Deployment/billing-stream-projector": {"DATABASE_URL"},
        "Deployment/billing-stream-deliver": {"DATABASE_URL"},
        "Job/billing-stream-topics": set(),
    }
    assert settings().reader_role == "billing_reader"


def test_images_are_named_by_digest() -> None:
    for image in kustomization()["images"]:
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", image["digest"])
        assert "newTag" not in image


def test_what_is_secret_stands_in_the_secret_and_has_no_value() -> None:
    fields, given = Settings.model_fields.values(), secrets()
    secret = {str(f.validation_alias) for f in fields if SecretStr in _types(f.annotation)}
    assert not secret & set(config_map())
    for one in given.values():
        assert set(one["stringData"]) <= secret
        assert set(one["stringData"].values()) <= {""}


def _types(annotation: Any) -> tuple[Any, ...]:
    return (annotation, *getattr(annotation, "__args__", ()))


def test_a_worker_keeps_its_name_in_the_group_when_its_pod_is_made_anew() -> None:
    env = {one["name"]: one for one in container(WORKER)["env"]}
    name = env["BILLING_WORKER_NAME"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert name == "metadata.name", "a StatefulSet gives a pod its name again"
    headless = named("Service", WORKER["spec"]["serviceName"])
    assert headless["spec"]["clusterIP"] == "None"
    host = env["BILLING_API_HOST"]["value"]
    assert host == f"$(BILLING_WORKER_NAME).{WORKER['spec']['serviceName']}"
    assert list(env).index("BILLING_WORKER_NAME") < list(env).index("BILLING_API_HOST")

    pods = [f"{WORKER['metadata']['name']}-{number}" for number in range(3)]
    peers = settings().peer_addresses
    assert all(peers.allow(f"http://{pod}.{WORKER['spec']['serviceName']}:8000") for pod in pods)
    assert not peers.allow("http://billing-stream-workers.evil.example:8000")
    members = {
        static_member(
            settings_of(
                {
                    **config_map(),
                    **secrets_filled(WORKER),
                    "BILLING_WORKER_NAME": one,
                    "BILLING_API_HOST": host.replace("$(BILLING_WORKER_NAME)", one),
                }
            )
        )
        for one in pods
    }
    assert len(members) == 3
    assert None not in members


def test_workers_that_stop_can_still_be_asked_by_the_others() -> None:
    assert named("Service", "billing-stream-workers")["spec"]["publishNotReadyAddresses"] is True


def test_pods_have_longer_to_stop_than_they_take() -> None:
    assert pod(WORKER)["terminationGracePeriodSeconds"] > stop_seconds(settings())
    assert pod(PROJECTOR)["terminationGracePeriodSeconds"] > PROJECTOR_STOPS
    assert pod(DELIVER)["terminationGracePeriodSeconds"] > DELIVER_STOPS


def test_a_worker_leaves_the_service_before_it_stops_serving() -> None:
    probe = container(WORKER)["readinessProbe"]
    assert (
        probe["periodSeconds"] * probe["failureThreshold"] < settings().drain_delay.total_seconds()
    )


@pytest.mark.parametrize("workload", [WORKER, PROJECTOR, DELIVER], ids=ids)
def test_probes_ask_what_there_is(workload: dict[str, Any]) -> None:
    paths = {
        kind: container(workload)[f"{kind}Probe"]["httpGet"]["path"]
        for kind in ("startup", "liveness", "readiness")
    }
    assert paths == {"startup": HEALTH_PATH, "liveness": HEALTH_PATH, "readiness": READY_PATH}
    port = container(workload)["ports"][-1]
    assert port["name"] in ("internal", "metrics"), "clients cannot fill it, and end the pod so"
    for kind in ("startup", "liveness", "readiness"):
        assert container(workload)[f"{kind}Probe"]["httpGet"]["port"] == port["name"]


def test_ports_are_those_of_the_settings() -> None:
    found = settings()
    public, ops, internal = (found.address_of(listener).port for listener in Listener)
    ports = {one["name"]: one["containerPort"] for one in container(WORKER)["ports"]}
    assert ports == {"http": public, "ops": ops, "internal": internal}
    assert len(found.addresses) == 3, "each listener has a port of its own"
    assert container(PROJECTOR)["ports"][0]["containerPort"] == found.projector_port
    assert container(DELIVER)["ports"][0]["containerPort"] == found.deliver_port
    others = ((PROJECTOR, found.projector_port), (DELIVER, found.deliver_port))
    for workload, port in ((WORKER, internal), *others):
        annotations = workload["spec"]["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/port"] == str(port)
    # Others reach a worker under its own port, not one that the service makes up.
    (headless,) = named("Service", "billing-stream-workers")["spec"]["ports"]
    assert (headless["port"], headless["targetPort"]) == (internal, "internal")
    of_services = {
        name: named("Service", name)["spec"]["ports"]
        for name in ("billing-stream-ops", "billing-stream")
    }
    assert {name: one["targetPort"] for name, (one,) in of_services.items()} == {
        "billing-stream-ops": "ops",
        "billing-stream": "http",
    }


def test_each_listener_is_open_to_those_it_is_for() -> None:
    found, policy = settings(), policy_of("worker")
    public, ops, internal = (found.address_of(listener).port for listener in Listener)
    labelled = [
        {"namespaceSelector": {"matchLabels": {f"billing-stream/{label}": "true"}}}
        for label in ("operators", "monitoring")
    ]
    workers = {"podSelector": {"matchLabels": WORKER["spec"]["selector"]["matchLabels"]}}
    assert sources(policy, public) == [{"namespaceSelector": {}}]
    assert sources(policy, ops) == labelled[:1]
    assert sources(policy, internal) == [labelled[0], workers, labelled[1]]
    assert sources(policy_of("projector"), found.projector_port) == labelled[1:]
    assert sources(policy_of("deliver"), found.deliver_port) == labelled[1:]
    listening = ("worker", "projector", "deliver")
    assert all(rule["from"] for name in listening for rule in policy_of(name)["ingress"])
    assert "ingress" not in policy_of("topics")


def test_a_process_reaches_what_it_needs_and_nothing_else() -> None:
    dns, kafka, postgres, https = (53, 53), (9092, 9094), (5432, 5432), (443, 443)
    workers = [(8000, 8000), (8002, 8002)]
    wanted = {
        "worker": {dns, kafka, postgres, https, *workers},
        "projector": {dns, kafka, postgres},
        "deliver": {dns, kafka, postgres, https},
        "topics": {dns, kafka},
    }
    for component, ports in wanted.items():
        policy = policy_of(component)
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        assert {port for rule in policy["egress"] for port in ports_of(rule)} == ports
    (to_workers,) = [rule for rule in policy_of("worker")["egress"] if ports_of(rule) == workers]
    assert to_workers["to"] == [{"podSelector": WORKER["spec"]["selector"]}]


@pytest.mark.parametrize("workload", workloads(), ids=ids)
def test_pods_have_no_rights_and_write_nowhere_but_to_volumes(workload: dict[str, Any]) -> None:
    of_pod, of_container = pod(workload)["securityContext"], container(workload)["securityContext"]
    assert of_pod["runAsNonRoot"] is True
    assert of_pod["runAsUser"] == 10001
    # Certificates of a Secret, with mode 0440, belong to this group.
    assert of_pod["fsGroup"] == of_pod["runAsGroup"] == 10001
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert of_container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(workload)["automountServiceAccountToken"] is False
    assert pod(workload)["enableServiceLinks"] is False
    assert container(workload)["resources"]["limits"]["memory"]
    for volume in pod(workload).get("volumes", []):
        assert "hostPath" not in volume


@pytest.mark.parametrize("workload", [WORKER, PROJECTOR, DELIVER], ids=ids)
def test_the_data_folder_can_be_written(workload: dict[str, Any]) -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in container(workload)["volumeMounts"]}
    assert str(settings().data_dir) in mounts
    assert "/tmp" in mounts
    claims = [c["metadata"]["name"] for c in workload["spec"].get("volumeClaimTemplates", [])]
    volumes = [v["name"] for v in pod(workload).get("volumes", [])]
    assert set(mounts.values()) == {*claims, *volumes}


def test_one_pod_at_a_time_may_be_taken() -> None:
    budgets = {one["metadata"]["name"]: one["spec"] for one in of_kind("PodDisruptionBudget")}
    for workload in (WORKER, PROJECTOR, DELIVER):
        budget = budgets[workload["metadata"]["name"]]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"] == workload["spec"]["selector"]


def test_selectors_find_the_pods_they_are_for() -> None:
    labels = [w["spec"]["template"]["metadata"]["labels"] for w in workloads()]
    selectors = [one["spec"]["selector"] for one in of_kind("Service")]
    selectors += [one["spec"]["podSelector"]["matchLabels"] for one in of_kind("NetworkPolicy")]
    for selector in selectors:
        assert sum(selector.items() <= label.items() for label in labels) == 1


def test_a_pod_reads_the_settings_and_the_secret_that_there_are() -> None:
    (generated,) = kustomization()["configMapGenerator"]
    used = set()
    for workload in workloads():
        config, reference = container(workload)["envFrom"]
        assert config == {"configMapRef": {"name": generated["name"]}}
        used.add(reference["secretRef"]["name"])
        assert container(workload)["image"] == kustomization()["images"][0]["name"]
    assert used == set(secrets())
    assert len(used) == len(workloads()), "no two share one"


def test_not_more_workers_than_partitions_and_replicas_as_in_production() -> None:
    assert WORKER["spec"]["replicas"] <= settings().partitions
    assert settings().replication_factor == 3


def test_the_schemas_are_of_these_versions() -> None:
    carried = {
        path.name
        for path in (package_files("kubernetes_validate") / "kubernetes-json-schema").iterdir()
    }
    assert all(f"v{version}.0-local-strict" in carried for version in VERSIONS)


def test_yaml_is_read_as_what_it_says() -> None:
    """`on`, `yes` and `1.10` would be other things than they look."""
    for name, value in config_map().items():
        assert isinstance(value, str), name
        assert value == value.strip('"'), "kustomize keeps quotes"
    assert (
        yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["kind"] == "Kustomization"
    )
