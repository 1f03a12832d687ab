"""What a container does to a worker, done by Linux itself: it works, and stops when told to."""

import asyncio
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shipping.confined import confine, python_needs
from shipping.running import Confined
from tests.support.worker import BIN, environment

pytestmark = pytest.mark.full


@pytest.fixture
def data() -> Iterator[Path]:
    """The one folder that can be written. Not under pytest's, which others cannot enter."""
    folder = Path(tempfile.mkdtemp(prefix="billing-stream-test-"))
    folder.chmod(0o755)
    (folder / "data").mkdir(mode=0o750)
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.mark.timeout(150)
async def test_a_worker_without_rights_on_a_read_only_root_works_and_ends_with_0(
    kafka: str, prefix: str, data: Path
) -> None:
    confinement = confine(data, python_needs())
    env = environment(
        kafka, prefix, BILLING_DATA_DIR=str(data), BILLING_PARTITIONS="2", BILLING_WORKER_NAME="one"
    )
    confined = Confined(confinement, env, BIN.parent)

    code, said = await confined.finished("billing-stream", "topics", "create")
    assert code == 0, said
    async with confined.worker(data) as worker:
        assert await worker.ready(), worker.output()
        assert worker.uid == confinement.uid
        code = await worker.stop()

    assert code == 0, worker.output()
    assert {path.name for path in data.iterdir()} <= {"worker", "store"}


@pytest.mark.timeout(60)
async def test_the_root_is_read_only_where_it_can_be_made_so(data: Path) -> None:
    confinement = confine(data, python_needs())
    if confinement.prefix:
        confined = Confined(confinement, dict(os.environ), Path("/bin"))
        script = f"touch {data}/here && ! touch {data.parent}/there && id -u && echo $$"
        code, said = await confined.finished("sh", "-c", script)
        assert code == 0, said
        assert said.split()[-2:] == [str(confinement.uid), "1"]
        assert (data / "here").exists()
    else:
        assert not confinement.read_only


@pytest.mark.timeout(60)
async def test_a_command_that_is_process_1_ends_at_sigterm(data: Path) -> None:
    """Before a worker has handlers of its own; the kernel would ignore the signal."""
    confinement = confine(data, python_needs())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = environment(f"127.0.0.1:{silent.getsockname()[1]}", "x.")
        process = await asyncio.create_subprocess_exec(
            *confinement.prefix, str(BIN), "topics", "check", env=env
        )
        loop = asyncio.get_running_loop()
        silent.setblocking(False)
        connection, _ = await asyncio.wait_for(loop.sock_accept(silent), 40)
        started = psutil.Process(process.pid)
        target = started.children()[0] if confinement.is_process_one else started
        target.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 30)
        connection.close()

    assert code in (128 + signal.SIGTERM, -signal.SIGTERM)
