"""The wheel owns one name at the top of site-packages, and a worker runs from it."""

import asyncio
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.support.worker import create_topics, environment

ROOT = Path(__file__).parents[2]
OTHERS = 'raise ImportError("this package is not of billing-stream")\n'

pytestmark = pytest.mark.full


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder of packages: this one, installed after another project's `agents`."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    folder = tmp_path / "site"
    for name in ("agents", "tables", "web"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(OTHERS)
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


@retry(
    retry=retry_if_exception_type((httpx.HTTPError, AssertionError)),
    stop=stop_after_delay(60),
    wait=wait_fixed(0.2),
    reraise=True,
)
async def require_ready(port: str) -> None:
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{port}/ready")).status_code == 200


async def test_worker_runs_from_the_wheel_beside_packages_of_others(
    kafka: str, prefix: str, installed: Path, tmp_path: Path
) -> None:
    env = environment(kafka, prefix, BILLING_PARTITIONS="2", BILLING_DATA_DIR=str(tmp_path / "d"))
    await create_topics(env)
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "billing_stream", "worker"],
        cwd=tmp_path,
        env={**os.environ, **env, "PYTHONPATH": str(installed)},
    )
    try:
        await require_ready(env["BILLING_API_EXTERNAL_PORT"])
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    tops = {path.name.split("-")[0] for path in installed.iterdir()}
    assert tops == {"billing_stream", "agents", "tables", "web"}
    for name in ("agents", "tables", "web"):
        assert (installed / name / "__init__.py").read_text() == OTHERS
        assert [path.name for path in (installed / name).iterdir()] == ["__init__.py"]
