"""Write deploy/kubernetes/monitoring/prometheus-rule.yaml from deploy/prometheus/alerts.yml.

python -m shipping.prometheus_rule
"""

from pathlib import Path

ALERTS = Path("deploy/prometheus/alerts.yml")
RULE = Path("deploy/kubernetes/monitoring/prometheus-rule.yaml")
HEAD = """\
# Made of deploy/prometheus/alerts.yml by `python -m shipping.prometheus_rule`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: billing-stream
  labels:
    app.kubernetes.io/name: billing-stream
spec:
"""


def rule_of(alerts: str) -> str:
    """The manifest with these groups of rules."""
    groups = alerts[alerts.index("groups:") :]
    return HEAD + "".join(f"  {line}" if line.strip() else line for line in groups.splitlines(True))


if __name__ == "__main__":
    RULE.write_text(rule_of(ALERTS.read_text()))
