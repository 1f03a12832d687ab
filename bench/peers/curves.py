"""Latency at a fixed schedule of arrivals: against Quix Streams, and over the load."""

from bench.arrivals import WARM_UP_SECONDS, Figures, latencies
from bench.peers.catalog import OURS, Peer, quix
from bench.peers.runs import Where, fresh, require_verified
from bench.setting import Setting, WorkerProcess, say

RATE = 1_000
COMMIT_INTERVALS = ("0.05", "0.1", "0.5", "1.0")
LOADS_PERCENT = (1, 5, 10, 25, 50, 75, 90)


async def against_quix(where: Where, rounds: int, seconds: int) -> dict[str, list[Figures]]:
    """Ours and Quix Streams exactly once at each commit interval, in turn."""
    peers = [OURS] + [
        quix(f"quix-eo {i} s", "exactly-once", None, QUIX_COMMIT_INTERVAL=i, QUIX_LINGER_MS="0")
        for i in COMMIT_INTERVALS
    ]
    found: dict[str, list[Figures]] = {peer.name: [] for peer in peers}
    for number in range(rounds):
        for peer in peers:
            figures = await measure(where, peer, RATE, seconds)
            found[peer.name].append(figures)
            say(f"-> round {number + 1}, {peer.name}: {figures}")
    return found


async def over_load(where: Where, most: float, seconds: int) -> dict[str, list[Figures]]:
    """Ours at shares of its measured maximum."""
    found: dict[str, list[Figures]] = {}
    for percent in LOADS_PERCENT:
        rate = max(1, int(most * percent / 100))
        figures = await measure(where, OURS, rate, seconds)
        found[f"{percent} %"] = [{"percent": percent, **figures}]
        say(f"-> {percent} % of {most:,.0f}/s: {figures}")
    return found


async def measure(where: Where, peer: Peer, rate: int, seconds: int) -> Figures:
    """p50, p99 and the greatest latency in milliseconds, warm-up left out."""
    async with fresh(where, peer) as setting:
        figures = await _measure(setting, peer, rate, seconds)
        if peer is OURS:
            await require_verified(setting, rate * (seconds + WARM_UP_SECONDS))
    return figures


async def _measure(setting: Setting, peer: Peer, rate: int, seconds: int) -> Figures:
    total = rate * (seconds + WARM_UP_SECONDS)
    async with (
        peer.load(setting, min(total, 5_000), total) as load,
        WorkerProcess(setting, peer.command) as worker,
    ):
        say(f"{peer.name}: preparing {total} purchases for {rate}/s")
        await load.prepare()
        await worker.start(wait=peer is OURS)
        if peer.prepared:
            await peer.prepared(setting, worker, total)
        return await latencies(setting, load, worker, rate, total)


def print_table(part: str, found: dict[str, list[Figures]]) -> None:
    """One line for each, the median of its rounds."""
    print(f"\n{part}: webhook record due to committed event, ms{'':18}p50     p99     max")
    for name, rounds in found.items():
        middle = {key: sorted(r[key] for r in rounds)[len(rounds) // 2] for key in rounds[0]}
        rate = f"{name}, {middle['per_second']:,.0f}/s"
        print(
            f"  {rate:54} {middle['p50_ms']:>7.0f} {middle['p99_ms']:>7.0f} "
            f"{middle['max_ms']:>7.0f}"
        )
