from dataclasses import replace

from bench.peers.catalog import OURS, kstreams
from bench.peers.streams import FULL, QUICK, Compared, Figures
from bench.peers.streams_report import comparisons, measures, report

PLAN = replace(QUICK, peak_per_s=20_000.0)
MEMORY, ROCKSDB = kstreams("memory", "memory", 20), kstreams("rocksdb", "rocksdb", 100)


def figures(every: float, **changed: float) -> Figures:
    """The same figure for each measure, but those that are named."""
    return {measure.key: every for measure in measures(PLAN)} | {
        key.replace("__", " "): value for key, value in changed.items()
    }


def compared(own: Figures, *others: Figures) -> Compared:
    systems = [OURS, MEMORY, ROCKSDB][: 1 + len(others)]
    rounds = zip(systems, [own, *others], strict=True)
    return Compared(PLAN, systems, figures={s.name: [one] for s, one in rounds}, busy_percent=[3.0])


def test_report_states_first_where_kafka_streams_is_ahead() -> None:
    text = report(compared(figures(10.0, queue__us_without_jit=22.0), figures(15.0)))

    assert text.split("\n\n")[1] == "## Where Kafka Streams is ahead"
    first, second = text.split("## Where billing-stream is ahead")
    assert "without JIT compiler threads | 22.0 | 15.0 | memory, 20 ms | 1.47x |" in first
    # Where more is better, 15 is ahead of 10.
    assert first.count(" | 10.0 | 15.0 | memory, 20 ms | 1.50x |") == 2
    assert "Recovery" in second


def test_report_warns_of_a_machine_that_was_not_idle() -> None:
    busy = compared(figures(10.0), figures(15.0))
    quiet = report(busy)
    busy.busy_percent = [3.0, 96.0]

    assert "Other processes used up to 96% of the cores" in report(busy)
    assert "Other processes used up to" not in quiet


def test_report_of_a_quick_run_says_that_it_is_too_short_to_warm_up() -> None:
    short = compared(figures(10.0), figures(15.0))
    full = compared(figures(10.0), figures(15.0))
    full.plan = replace(PLAN, queued=FULL.queued)

    assert "do not warm up a JVM" in report(short)
    assert "do not warm up a JVM" not in report(full)


def test_each_measure_is_compared_with_the_best_settings() -> None:
    text = report(
        compared(figures(10.0), figures(20.0, recovery_s=8.0), figures(12.0, recovery_s=9.0))
    )

    ahead, behind = text.split("## Where billing-stream is ahead")
    assert "s | 10.0 | 8.0 | memory, 20 ms | 1.25x |" in ahead
    assert "s | 10.0 | 12.0 | rocksdb, 100 ms | 1.20x |" in behind


def test_goals_allow_a_fifth_more_of_warm_cpu_only() -> None:
    worse = figures(11.0, queue__us_without_jit=12.0)

    goals = [one for one in comparisons(compared(worse, figures(10.0))) if one.measure.goal]

    assert [one.measure.key for one in goals if one.met] == ["queue us_without_jit"]
    assert {one.measure.goal for one in goals} == {1.0, 1.2}


def test_report_states_why_kafka_streams_was_skipped() -> None:
    alone = compared(figures(10.0))
    alone.skipped = "Maven (`mvn`) is not installed"

    text = report(alone)

    assert text.split("\n\n")[1].startswith("**Kafka Streams was skipped: Maven (`mvn`) is not")
    assert "is ahead" not in text
    assert "ms | 10.0 |" in text


def test_cpu_of_a_broker_that_was_not_started_here_is_left_out() -> None:
    unknown = {m.key: 0.0 if "broker" in m.key else 1.0 for m in measures(PLAN)}

    assert not [
        one for one in comparisons(compared(unknown, unknown)) if "broker" in one.measure.key
    ]
