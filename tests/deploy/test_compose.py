"""docker-compose.yml, by the schema of Compose and by what we know of the service."""

import json
import re
from importlib.resources import files

import pytest
import yaml
from jsonschema import Draft7Validator

from billing_stream.config.durations import parse_duration
from billing_stream.config.listener_settings import Listener
from billing_stream.config.settings import Settings
from billing_stream.worker import stop_seconds
from tests.deploy.files import (
    COMPOSE,
    ROOT,
    compose,
    known_settings,
    ours,
    services,
    settings_of,
)

# Read by compose alone: they become other variables, or parts of the image's name.
PASSWORDS = {"POSTGRES_PASSWORD", "GRAFANA_PASSWORD"}
OF_COMPOSE = {*PASSWORDS, "IMAGE_TAG", "REVISION"}
WORKERS = ("worker-1", "worker-2")
STRICT = ("read_only", "cap_drop", "security_opt", "restart", "stop_grace_period", "healthcheck")


def environment(service: str) -> dict[str, str]:
    found: dict[str, str] = services()[service]["environment"]
    return found


def settings(service: str) -> Settings:
    """The settings of a service, when nothing is set outside."""
    given = {
        name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
        for name, value in environment(service).items()
        if ":?" not in value
    }
    return settings_of(given)


def published(service: str) -> list[int]:
    """The ports that are open to this machine."""
    found = []
    for port in services()[service]["ports"]:
        outside, inside = port.removeprefix("127.0.0.1:").split(":")
        assert outside == inside, "what a worker tells of itself must be true outside, too"
        found.append(int(inside))
    return found


def port_of(service: str, listener: Listener) -> int:
    return settings(service).address_of(listener).port


def schema_of_compose() -> Draft7Validator:
    vendored = files("check_jsonschema.builtin_schemas") / "vendor" / "compose-spec.json"
    return Draft7Validator(json.loads(vendored.read_text()))


def test_it_is_valid_by_the_schema_of_compose() -> None:
    errors = [error.message for error in schema_of_compose().iter_errors(compose())]
    assert errors == []


def test_the_schema_would_find_a_mistake() -> None:
    wrong = compose()
    wrong["services"]["kafka"]["helthcheck"] = {}
    assert not schema_of_compose().is_valid(wrong)


def test_it_has_the_whole_system() -> None:
    assert set(services()) == {
        *("kafka", "postgres", "topics", *WORKERS, "projector", "deliver", "prometheus", "grafana"),
        "alertmanager",
    }


@pytest.mark.parametrize("name", sorted(services()))
def test_each_service_is_confined_checked_and_started_again(name: str) -> None:
    service = services()[name]
    assert [key for key in STRICT if key not in service] == []
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert any(place.split(":")[0] == "/tmp" for place in service["tmpfs"])
    assert "privileged" not in service


def test_own_containers_regain_no_right_and_run_as_the_image_user() -> None:
    for service in ours().values():
        assert "cap_add" not in service
        assert "user" not in service


def test_every_variable_is_a_setting() -> None:
    for service in ours().values():
        assert set(service["environment"]) <= known_settings()
    asked = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    assert asked - known_settings() == OF_COMPOSE
    example = (ROOT / ".env.example").read_text()
    assert {name for name in asked if f"{name}=" in example} >= PASSWORDS


def test_no_secret_has_a_default() -> None:
    secrets = re.findall(r"\$\{(\w*(?:SECRET|PASSWORD)\w*)([^}]*)\}", COMPOSE.read_text())
    assert {name for name, _ in secrets} >= {"CLIENT_JWT_SECRET", "POSTGRES_PASSWORD"}
    assert all(rest == f":?set {name}" for name, rest in secrets)


@pytest.mark.parametrize("name", sorted(ours()))
def test_its_environment_is_right_by_the_settings(name: str) -> None:
    assert settings(name).bootstrap_servers == ["kafka:9092"]
    assert str(settings(name).data_dir) == "/data"


def test_the_workers_are_two_members_that_can_reach_each_other() -> None:
    for name in WORKERS:
        assert settings(name).worker_name == name
        assert settings(name).api_host == name, "compose names a container after its service"
        public, ops, _ = (port_of(name, listener) for listener in Listener)
        assert published(name) == [public, ops], "the internal one is for containers alone"
    ports = {port for name in WORKERS for _, port in settings(name).addresses}
    assert len(ports) == 6
    volumes = {services()[name]["volumes"][0] for name in WORKERS}
    assert len(volumes) == 2


def test_a_worker_has_longer_to_stop_than_a_drain_takes() -> None:
    for name in WORKERS:
        grace = parse_duration(services()[name]["stop_grace_period"])
        assert grace.total_seconds() > stop_seconds(settings(name))


def test_topics_come_before_workers_and_kafka_before_topics() -> None:
    assert services()["topics"]["command"] == ["topics", "create"]
    assert services()["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    for name in (*WORKERS, "projector", "deliver"):
        before = services()[name]["depends_on"]
        assert before["topics"] == {"condition": "service_completed_successfully"}
    for name in ("projector", "deliver"):
        assert services()[name]["depends_on"]["postgres"] == {"condition": "service_healthy"}


def test_each_is_asked_on_its_own_port() -> None:
    for name in WORKERS:
        assert services()[name]["healthcheck"]["test"][-1] == "ready", "the port is the setting's"
    ports = settings("projector").projector_port, settings("deliver").deliver_port
    for name, port in zip(("projector", "deliver"), ports, strict=True):
        assert services()[name]["healthcheck"]["test"][-2:] == ["--port", str(port)]
        assert published(name) == [port]


def test_prometheus_asks_every_worker_and_projector() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    targets = {
        t for job in config["scrape_configs"] for s in job["static_configs"] for t in s["targets"]
    }
    wanted = {f"{name}:{port_of(name, Listener.INTERNAL)}" for name in WORKERS}
    wanted.add(f"projector:{settings('projector').projector_port}")
    assert targets == {*wanted, f"deliver:{settings('deliver').deliver_port}"}
    for file in config["rule_files"]:
        groups = yaml.safe_load((ROOT / "deploy/prometheus" / file).read_text())["groups"]
        assert all(rule["expr"] for group in groups for rule in group["rules"])


def test_prometheus_sends_alerts_to_the_alertmanager() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (target,) = config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    service, port = target.split(":")
    assert published(service) == [int(port)]
    (flag,) = [one for one in services()[service]["command"] if one.startswith("--config.file=")]
    mounts = dict(volume.split(":")[:2] for volume in services()[service]["volumes"])
    folder, file = flag.removeprefix("--config.file=").rsplit("/", 1)
    assert mounts[f"./deploy/{service}"] == folder
    assert (ROOT / f"deploy/{service}" / file).is_file()


def test_ports_are_open_to_this_machine_only() -> None:
    ports = [port for service in services().values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_mounted_file_is_there() -> None:
    mounted = [v for s in services().values() for v in s.get("volumes", [])]
    folders = [volume.split(":") for volume in mounted if volume.startswith(".")]
    assert folders
    for source, _, mode in folders:
        assert (ROOT / source).is_dir()
        assert mode == "ro"
    assert {v.split(":")[0] for v in mounted if not v.startswith(".")} == set(compose()["volumes"])
