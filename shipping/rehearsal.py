"""`python -m shipping.rehearsal`: the image without a container engine.

Runs the build commands of the Dockerfile in a folder, then runs from what was built a worker as
the container would: process 1, uid 10001, read-only root, no rights, against a real Kafka. Linux,
as root for all of it. Ends with 0 when it was ready and SIGTERM ended it with 0, else with 1.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

from billing_stream.dev.cluster import Cluster
from shipping.confined import Confinement, confine
from shipping.containerfile import Rehearsal
from shipping.running import Confined

SECRET = "rehearsal-secret-0123456789-0123456789"


async def run(bin_: Path, data: Path, kafka: str, confinement: Confinement) -> bool:
    """Create the topics, run a worker until it is ready, stop it; whether all went well."""
    environment = {
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "APP_ENV": "test",
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "CLIENT_JWT_SECRET": SECRET,
        "INTERNAL_JWT_SECRET": SECRET,
        "BILLING_DATA_DIR": str(data),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    confined = Confined(confinement, environment, bin_)
    code, said = await confined.finished("billing-stream", "topics", "create")
    print(said.splitlines()[-1] if said else f"topics create: {code}")
    if code:
        return False
    async with confined.worker(data) as worker:
        ready = await worker.ready()
        print(f"ready: {ready}, uid {worker.uid}, process 1: {confinement.is_process_one}")
        code = await worker.stop()
    print(f"SIGTERM ended it with {code}; written: {sorted(p.name for p in data.iterdir())}")
    if not ready or code:
        print(worker.output())
    return ready and code == 0


def main() -> int:
    """Build, run, tidy up; the exit code."""
    # Not under /tmp for the environment: other users must be able to read it.
    folder = Path(tempfile.mkdtemp(prefix="billing-rehearsal-", dir="/var/tmp"))
    try:
        folder.chmod(0o755)
        bin_ = Rehearsal(folder / "image").build()
        size = sum(p.stat().st_size for p in bin_.parent.rglob("*") if p.is_file())
        print(f"built: {size / 1e6:.0f} MB in {bin_.parent}")
        data = folder / "data"
        data.mkdir(mode=0o750)
        confinement = confine(data, [bin_])
        if not confinement.read_only:
            print("NOT CONFINED: this needs Linux and root")
        with Cluster(folder / "kafka", kafka=True) as cluster:
            good = asyncio.run(run(bin_, data, cluster.bootstrap_servers, confinement))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
