"""Alert rules and dashboard are what Prometheus takes, and of metrics that there are."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import enable_created_metrics

from tests.metrics.registries import families, sample_names
from tests.support.promtool import promtool

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
RULES: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0][
    "rules"
]
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/billing.json").read_text())
PANEL_EXPRESSIONS = [t["expr"] for panel in DASHBOARD["panels"] for t in panel["targets"]]
NAME = re.compile(r"\b(?:billing|process)_\w+")


def run(*arguments: str, cwd: Path = PROMETHEUS) -> str:
    done = subprocess.run([promtool(), *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_rules_and_its_settings() -> None:
    assert f"SUCCESS: {len(RULES)} rules found" in run("check", "rules", "alerts.yml")
    assert "SUCCESS" in run("check", "config", "prometheus.yml")


def test_prometheus_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": e} for n, e in enumerate(PANEL_EXPRESSIONS)]
    (tmp_path / "panels.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "p", "rules": rules}]})
    )
    assert f"{len(rules)} rules found" in run("check", "rules", "panels.yml", cwd=tmp_path)


@pytest.mark.usefixtures("environ")
async def test_alerts_and_panels_are_of_metrics_that_there_are() -> None:
    there = sample_names()
    for expression in [rule["expr"] for rule in RULES] + PANEL_EXPRESSIONS:
        assert set(NAME.findall(expression)) <= there, expression


@pytest.mark.usefixtures("environ")
async def test_the_reference_has_every_metric_of_ours_with_its_help() -> None:
    text = (ROOT / "docs/metrics.md").read_text()
    for family in families():
        if family.name.startswith("billing_"):
            ending = "_total" if family.type == "counter" else ""
            assert f"`{family.name}{ending}` | {family.type} |" in text
            assert family.documentation in text


@pytest.mark.usefixtures("environ")
async def test_no_series_states_when_another_began() -> None:
    enable_created_metrics()  # type: ignore[no-untyped-call]
    names = {sample.name for family in families() for sample in family.samples}
    assert "billing_transaction_duration_seconds_count" in names
    assert [name for name in names if name.endswith("_created")] == []


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    names = [rule["alert"] for rule in RULES]
    text = (ROOT / "docs/runbooks.md").read_text()
    assert re.findall(r"^## (\w+)", text, re.MULTILINE) == names
    for part in text.split("\n## ")[1:]:
        assert "**Impact**:" in part
        assert "**Diagnose**:" in part
        assert "**Fix**:" in part
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning")


def fires(tmp_path: Path, alert: str, series: dict[str, str], at: str, labels: str | None) -> None:
    """Whether `alert` fires at a time of these series, with these labels; None for not at all."""
    expected = [] if labels is None else [{"exp_labels": yaml.safe_load(labels)}]
    for one in expected:
        one["exp_annotations"] = {}
    rules = [{**rule, "annotations": {}} for rule in RULES if rule["alert"] == alert]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": s, "values": v} for s, v in series.items()],
                "alert_rule_test": [{"eval_time": at, "alertname": alert, "exp_alerts": expected}],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    run("test", "rules", "test.yml", cwd=tmp_path)


@pytest.mark.parametrize(("owned", "labels"), [("1x40", None), ("1x4 0x36", "severity: critical")])
def test_a_partition_without_owner_is_told(tmp_path: Path, owned: str, labels: str | None) -> None:
    series = {
        'billing_partitions{instance="a"}': "2x40",
        'billing_partition_owned{instance="a",partition="0"}': "1x40",
        'billing_partition_owned{instance="b",partition="1"}': owned,
    }
    fires(tmp_path, "BillingPartitionWithoutOwner", series, "8m", labels)


def test_no_owner_of_any_partition_is_told(tmp_path: Path) -> None:
    series = {
        'billing_partitions{instance="a"}': "2x40",
        'billing_partition_owned{instance="a",partition="0"}': "0x40",
        'billing_partition_owned{instance="a",partition="1"}': "0x40",
    }
    fires(tmp_path, "BillingPartitionWithoutOwner", series, "8m", "severity: critical")


@pytest.mark.parametrize(
    ("held", "labels"), [("1x40", None), ("1x8 0x32", "{instance: a, severity: warning}")]
)
def test_a_lost_lease_is_told(tmp_path: Path, held: str, labels: str | None) -> None:
    series = {
        'billing_lease_held{instance="a"}': held,
        'billing_lanes_owned{instance="a"}': "2x40",
    }
    fires(tmp_path, "BillingLeaseLost", series, "8m", labels)


@pytest.mark.parametrize(
    ("started", "labels"),
    [
        ("100x40", None),
        ("100x8 200x8 300x8 400x16", "{instance: a, job: billing-worker, severity: warning}"),
    ],
)
def test_a_process_that_ends_again_and_again_is_told(
    tmp_path: Path, started: str, labels: str | None
) -> None:
    series = {'process_start_time_seconds{instance="a",job="billing-worker"}': started}
    fires(tmp_path, "BillingProcessRestarts", series, "8m", labels)


@pytest.mark.parametrize(("up", "labels"), [("1x60", None), ("1x4 0x56", "severity: warning")])
def test_no_projector_is_told(tmp_path: Path, up: str, labels: str | None) -> None:
    series = {'up{instance="a",job="billing-projector"}': up}
    fires(tmp_path, "BillingProjectorAbsent", series, "12m", labels)


@pytest.mark.parametrize(("open_gaps", "labels"), [("0x40", None), ("1x40", "severity: warning")])
def test_a_gap_of_the_projection_is_told(
    tmp_path: Path, open_gaps: str, labels: str | None
) -> None:
    series = {'billing_projector_open_gaps{instance="a",kind="trimmed"}': open_gaps}
    expected = None if labels is None else f"{{{labels}, kind: trimmed}}"
    fires(tmp_path, "BillingProjectorGap", series, "5m", expected)


# Of an alert, the reason of its dead letters, and its labels.
OF_LETTERS = {
    "BillingDeadLetters": (
        "NOT_UNDERSTOOD",
        "{severity: warning, topic: t, reason: NOT_UNDERSTOOD}",
    ),
    "BillingPaymentMismatch": ("PAYMENT_MISMATCH", "{severity: critical, topic: t}"),
    "BillingChargeTaken": ("CHARGE_TAKEN", "{severity: critical}"),
    "BillingShopTaken": ("SHOP_TAKEN", "{severity: critical}"),
    "BillingInternalErrors": ("INTERNAL_ERROR", "{severity: critical, source: record}"),
}


@pytest.mark.parametrize("alert", OF_LETTERS)
@pytest.mark.parametrize(
    ("at", "fired"), [("4m", False), ("6m", True), ("3h", True), ("5h", False)]
)
def test_dead_letter_is_reported_until_it_is_closed(
    tmp_path: Path, alert: str, at: str, fired: bool
) -> None:
    reason, labels = OF_LETTERS[alert]
    # Closed after 4 hours; two workers report the same ones.
    values = "_x20 1x939 0x500"
    series = {
        f'billing_dead_letters_open{{topic="t",reason="{reason}",instance="{one}"}}': values
        for one in "ab"
    }
    fires(tmp_path, alert, series, at, labels if fired else None)


@pytest.mark.parametrize("alert", OF_LETTERS)
def test_dead_letters_of_one_cause_are_one_alert(tmp_path: Path, alert: str) -> None:
    reasons = [reason for name, (reason, _) in OF_LETTERS.items() if name != alert]
    series = {f'billing_dead_letters_open{{topic="t",reason="{one}"}}': "1x40" for one in reasons}
    fires(tmp_path, alert, series, "7m", None)


@pytest.mark.parametrize(("at", "fired"), [("9m", True), ("11m", True), ("14m", False)])
def test_restart_of_the_only_worker_does_not_end_the_alert(
    tmp_path: Path, at: str, fired: bool
) -> None:
    """Its gauge is away while the worker starts and reads the topics."""
    values = "1x40 stale " + ("_x4 1x20" if fired else "_x40")
    series = {'billing_dead_letters_open{topic="t",reason="NOT_UNDERSTOOD"}': values}
    labels = OF_LETTERS["BillingDeadLetters"][1] if fired else None
    fires(tmp_path, "BillingDeadLetters", series, at, labels)


@pytest.mark.parametrize(("at", "fired"), [("5m", False), ("7m", True), ("3h", True)])
def test_kafka_that_is_away_is_reported_for_as_long_as_it_is(
    tmp_path: Path, at: str, fired: bool
) -> None:
    series = {'billing_kafka_away{instance="a"}': "0x20 1x900"}
    labels = "{severity: critical, instance: a}" if fired else None
    fires(tmp_path, "BillingKafkaAway", series, at, labels)


def test_no_alert_on_a_lasting_cause_looks_at_a_rate() -> None:
    """A rate is over after its window, whether or not its cause is."""
    rates = {r["alert"] for r in RULES if re.search(r"\b(increase|rate|changes)\(", r["expr"])}
    assert rates == {
        # While requests, attempts, restarts or retries of timers go on.
        *("BillingProcessRestarts", "BillingInternalErrors", "BillingHttpErrors"),
        *("BillingHttpSlow", "BillingPlatformCallsFail", "BillingWebhooksForged"),
        *("BillingCredentialsRefused", "BillingTransactionsSlow", "BillingTransactionsStand"),
    }


@pytest.mark.parametrize(("at", "fired"), [("9m", False), ("12m", True), ("25m", False)])
def test_paid_purchase_is_reported_until_it_is_credited(
    tmp_path: Path, at: str, fired: bool
) -> None:
    series = {'billing_paid_not_credited{instance="a"}': "1x79 0x40"}
    labels = "{severity: critical}" if fired else None
    fires(tmp_path, "BillingPaidNotCredited", series, at, labels)


@pytest.mark.parametrize(
    ("at", "labels"),
    [("4m", None), ("6m", "{severity: critical, topic: t, partition: 1}"), ("30m", None)],
)
def test_stopped_input_is_reported_for_as_long_as_it_is_stopped(
    tmp_path: Path, at: str, labels: str | None
) -> None:
    series = {'billing_input_stopped{topic="t",partition="1",instance="a"}': "0x19 1x79 0x40"}
    fires(tmp_path, "BillingInputStopped", series, at, labels)


@pytest.mark.parametrize(
    ("metric", "value"), [("billing_input_stopped", "1"), ("billing_input_held_back_seconds", "99")]
)
def test_input_that_waits_for_others_is_no_worker_that_commits_nothing(
    tmp_path: Path, metric: str, value: str
) -> None:
    series = {
        'billing_lag_records{topic="t",partition="1",instance="a"}': "50x80",
        f'{metric}{{topic="t",partition="1",instance="a"}}': f"{value}x80",
        'billing_transaction_duration_seconds_count{instance="a"}': "7x80",
    }
    fires(tmp_path, "BillingTransactionsStand", series, "18m", None)


@pytest.mark.parametrize(("values", "fired"), [("2x30", False), ("90x30", True), ("-90x30", True)])
def test_clock_that_is_ahead_or_behind_is_reported(
    tmp_path: Path, values: str, fired: bool
) -> None:
    series = {'billing_clock_ahead_seconds{instance="a"}': values}
    labels = "{severity: warning, instance: a}" if fired else None
    fires(tmp_path, "BillingClockWrong", series, "5m", labels)


@pytest.mark.parametrize(("at", "fired"), [("8m", False), ("11m", True), ("16m", False)])
def test_workers_that_differ_are_reported_after_a_rolling_restart(
    tmp_path: Path, at: str, fired: bool
) -> None:
    series = {'billing_workers_differing{instance="a"}': "1x50 0x80"}
    labels = "{severity: warning}" if fired else None
    fires(tmp_path, "BillingWorkersDiffer", series, at, labels)


@pytest.mark.parametrize(("at", "fired"), [("1m", False), ("4m", True), ("8m", False)])
def test_input_held_back_by_a_producer_is_reported(tmp_path: Path, at: str, fired: bool) -> None:
    series = {'billing_input_held_back_seconds{topic="t",partition="1"}': "0+15x20 0x40"}
    labels = "{severity: critical, topic: t, partition: 1}" if fired else None
    fires(tmp_path, "BillingInputHeldBack", series, at, labels)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ("20000-10x80", None),
        ("20000+10x80", "{severity: warning, topic: t}"),
        ("20000x80", "{severity: warning, topic: t}"),
    ],
)
def test_lag_that_shrinks_is_not_told(tmp_path: Path, values: str, labels: str | None) -> None:
    series = {'billing_lag_records{topic="t",partition="0"}': values}
    fires(tmp_path, "BillingLagGrows", series, "18m", labels)


@pytest.mark.parametrize(("age", "fired"), [("0+15x59", False), ("0+15x100", True)])
def test_webhook_that_waits_long_for_its_charge_is_reported(
    tmp_path: Path, age: str, fired: bool
) -> None:
    series = {'billing_early_webhooks_oldest_seconds{partition="1"}': age}
    labels = "{severity: warning, partition: 1}" if fired else None
    fires(tmp_path, "BillingEarlyWebhooksOld", series, "21m", labels)
