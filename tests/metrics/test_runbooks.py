"""Each runbook has commands to paste, and each of them would be accepted."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from billing_stream.cli import cli
from billing_stream.console.docs_cli import sections
from billing_stream.web.health import HEALTH_PATH, READY_PATH
from tests.deploy.files import services, workloads
from tests.metrics.registries import sample_names

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/runbooks.md").read_text()
PARTS = sections(PAGE)
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.M | re.S)
INLINE = re.compile(r"`((?:billing-stream|kubectl|docker compose) [^`]+)`")
# What a reader replaces, with a value of its kind.
VALUES = {
    "TICKET": "ticket 1",
    "LETTER": "3@17",
    "MERCHANT": "11111111-1111-4111-8111-111111111111",
    "TOPIC[PARTITION]@OFFSET": "evt.merchant.created.v1[1]@5",
    "TOPIC": "evt.merchant.created.v1",
    "PARTITION": "1",
    "INSTANCE": "worker-1:8020",
    "POD": "billing-stream-worker-0",
    "...": "ticket 1",
    "N": "3",
    "TABLE": "shops",
}
# What is looked for in logs, and among the labels of a metric.
LOGGED = ("a rule failed", "for their credentials", "read_webhook")
KUBECTL = {"logs", "describe", "delete", "rollout", "scale", "exec"}


def filled(line: str) -> str:
    """The line with values for what a reader replaces."""
    names = "|".join(re.escape(name) for name in sorted(VALUES, key=len, reverse=True))
    return re.sub(rf"(?<![\w.])(?:{names})(?![\w])", lambda found: VALUES[found[0]], line)


def commands(text: str) -> list[str]:
    """The lines of the blocks of a part."""
    return [line for block in BLOCK.findall(text) for line in block.splitlines()]


def parse(words: list[str]) -> None:
    """Parse a command of billing-stream to its last option. Raises click's errors."""
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words[0])
        if found is None:
            break
        command, words = found, words[1:]
    assert not isinstance(command, click.Group) or command.invoke_without_command, words
    command.make_context(command.name, list(words), resilient_parsing=False)


def pipeline(line: str) -> Iterator[list[str]]:
    """The words of each command of a line. Raises ValueError where quotes are not closed."""
    reader = shlex.shlex(filled(line), posix=True, punctuation_chars="|")
    reader.whitespace_split = True
    words: list[str] = []
    for word in reader:
        if word == "|":
            yield words
            words = []
        else:
            words.append(word)
    yield words


def objects() -> set[str]:
    """What `kubectl` can name: the workloads, and their pods."""
    names = {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in workloads()}
    return names | {"billing-stream-worker-0"}


def check(words: list[str], metrics: set[str]) -> None:
    """Raise where the command, an option, an address, an object or a metric is not there."""
    match words:
        case ["billing-stream", *rest]:
            parse(rest)
        case ["curl", "-s", url]:
            path = url.removeprefix(f"http://{VALUES['INSTANCE']}")
            assert path in (HEALTH_PATH, READY_PATH, "/metrics"), url
        case ["grep", pattern]:
            known = any(pattern in name for name in metrics)
            assert known or pattern in LOGGED, pattern
        case ["kubectl", verb, *rest]:
            assert verb in KUBECTL
            assert objects() & set(rest), rest
            if "--" in rest:
                check(rest[rest.index("--") + 1 :], metrics)
        case ["docker", "compose", "exec", service, *rest]:
            assert service in services()
            check(rest, metrics)
        case ["wget", "-qO-", url]:
            check(["curl", "-s", url], metrics)
        case ["docker", "compose", ("logs" | "restart")] | ["chronyc", "tracking"]:
            pass
        case _:
            raise AssertionError(f"an unknown command: {words}")


def check_line(line: str, metrics: set[str]) -> None:
    """Check each command of a line."""
    for words in pipeline(line):
        check(words, metrics)


@pytest.mark.usefixtures("environ")
async def test_each_command_parses_and_names_what_there_is() -> None:
    metrics = sample_names()
    lines = [*commands(PAGE), *INLINE.findall(PAGE)]
    assert len(lines) > 70
    short = {"kubectl logs", "kubectl delete pod"}
    for line in lines:
        if line not in short:
            check_line(line, metrics)


def test_each_runbook_has_commands_to_paste() -> None:
    assert [name for name, part in PARTS.items() if not commands(part)] == []


@pytest.mark.parametrize(
    "line",
    [
        "billing-stream dlq redrve LETTER",
        'billing-stream dlq redrive LETTER --becaus "TICKET"',
        "billing-stream dlq redrive LETTER",
        "billing-stream dlq list --since yesterday",
        "curl -s http://INSTANCE/redy",
        "curl -s http://INSTANCE/metrics | grep billing_lags",
        "kubectl rollout restart statefulset/billing-worker",
        "docker compose exec worker billing-stream doctor",
        "billing-stream dlq show 'LETTER",
    ],
)
def test_a_wrong_command_is_found(line: str) -> None:
    with pytest.raises((click.ClickException, AssertionError, ValueError)):
        check_line(line, {"billing_lag_records"})


def test_each_alert_names_its_runbook_by_a_command() -> None:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        words = shlex.split(rule["annotations"]["runbook"])
        parse(words[1:])
        assert words[:3] == ["billing-stream", "docs", "runbooks"]
        assert words[3] == rule["alert"]
        assert words[3] in PARTS
