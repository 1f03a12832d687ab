"""The files of a deployment, read as what reads them would."""

from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

from billing_stream.config.settings import Settings

ROOT = Path(__file__).parent.parent.parent
COMPOSE = ROOT / "docker-compose.yml"
KUBERNETES = ROOT / "deploy" / "kubernetes"
SECRET = KUBERNETES / "secret.example.yaml"

Mapping = dict[str, Any]

REQUIRED = {
    "APP_ENV": "test",
    "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
    "CLIENT_JWT_SECRET": "x" * 32,
    "INTERNAL_JWT_SECRET": "x" * 32,
}
"""Values for the settings without a default."""


def compose() -> Mapping:
    """docker-compose.yml, its anchors resolved."""
    found: Mapping = yaml.safe_load(COMPOSE.read_text())
    return found


def services() -> Mapping:
    """The services of docker-compose.yml."""
    found: Mapping = compose()["services"]
    return found


def ours() -> Mapping:
    """The services that run our image."""
    return {n: s for n, s in services().items() if s["image"].startswith("billing-stream")}


def kustomization() -> Mapping:
    """deploy/kubernetes/kustomization.yaml."""
    found: Mapping = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    return found


def manifests() -> list[Mapping]:
    """Every object that the kustomization applies, as it is written."""
    return [
        one
        for name in kustomization()["resources"]
        for one in yaml.safe_load_all((KUBERNETES / name).read_text())
    ]


def secrets() -> dict[str, Mapping]:
    """The examples of Secrets, by their names."""
    return {one["metadata"]["name"]: one for one in yaml.safe_load_all(SECRET.read_text())}


def of_kind(kind: str) -> list[Mapping]:
    """The objects of one kind."""
    return [one for one in manifests() if one["kind"] == kind]


def named(kind: str, name: str) -> Mapping:
    """One object."""
    (found,) = [one for one in of_kind(kind) if one["metadata"]["name"] == name]
    return found


def workloads() -> list[Mapping]:
    """Everything that makes pods."""
    return [one for one in manifests() if one["kind"] in ("StatefulSet", "Deployment", "Job")]


def pod(workload: Mapping) -> Mapping:
    """The pod that a workload makes."""
    found: Mapping = workload["spec"]["template"]["spec"]
    return found


def config_map() -> dict[str, str]:
    """What the generated ConfigMap holds."""
    return {name: value or "" for name, value in dotenv_values(KUBERNETES / "settings.env").items()}


def known_settings() -> set[str]:
    """The variable of every setting."""
    return {str(field.validation_alias) for field in Settings.model_fields.values()}


def settings_of(environment: Mapping) -> Settings:
    """The settings that a process with this environment has, and no other."""
    given = {**REQUIRED, **{n: str(v) for n, v in environment.items() if n in known_settings()}}
    return Settings.model_validate(given)
