"""Whatever others wrote, it moves no cursor, hides nothing, and no password is printed."""

import ast
import io
import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from billing_stream import cli
from billing_stream.audit.explain import account_text
from billing_stream.config.log_settings import LogFormat
from billing_stream.console.output import clean_warnings, say, say_text
from billing_stream.observability.logs import formatter
from billing_stream.plain_text import clean_line, clean_text, mask_passwords, shown
from tests.support.nodes import cluster, get
from tests.support.parsed import parsed
from tests.support.tokens import operator_headers
from tests.support.worker import environment, run

ROOT = Path(cli.__file__).parent
HOSTILE = [
    "\x1b]0;pwned\x07",
    "\x1b[2J\x1b[H",
    "\x1b[8mhidden\x1b[0m",
    "\x1bP$q\x1b\\",
    "\x9b2J",
    "\x9d0;pwned\x9c",
    "line\rLINE",
    "a\b\b\bb",
    "\x7f\x00\x0b\x0c\x0e",
    "user\u202egnp.exe",
    "\u2066\u2069\u200e\u200f\u061c",
    "zero\u200bwidth\u2060\ufeff\u00ad",
    "\u2028\u2029\u0085",
    "lone \ud800 surrogate",
    "\U000e0041 tag",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_printed_is_printable(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(f"domain {text}\nsecond")
    say_text(f"a\tb {text}\nsecond", err=True)

    printed = capsys.readouterr()
    assert printed.out.endswith("\n")
    assert printed.out[:-1].isprintable()
    first, second, nothing = printed.err.split("\n")
    assert first.replace("\t", "").isprintable()
    assert (second, nothing) == ("second", "")


@pytest.mark.parametrize("text", [*HOSTILE, "postgresql://u:\x1bs3cr3t@db"])
def test_a_warning_of_a_command_is_printable(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "lastResort", logging._StderrHandler(logging.WARNING))  # type: ignore[attr-defined]
    clean_warnings()
    logger = logging.Logger("billing_stream.x")

    logger.warning("a record says %s", text)

    printed = capsys.readouterr().err
    assert printed.endswith("\n")
    assert printed[:-1].isprintable()
    assert "s3cr3t" not in printed


def test_ordinary_text_of_any_language_is_left_as_it_is() -> None:
    for text in ("Ægir 株式会社 שלום é", "a/b?c=d&e=f", 'x "quoted" #1', "42 %"):
        assert clean_line(text) == clean_text(text) == mask_passwords(text) == text


@pytest.mark.parametrize("form", list(LogFormat))
@pytest.mark.parametrize("text", [*HOSTILE, "x\n2026-11-30T00:00:00Z [INFO] login operator=eve"])
def test_a_line_of_the_log_is_one_line_without_controls(form: LogFormat, text: str) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(form, colours=False, secrets=[]))
    logger = logging.Logger("billing_stream.x")
    logger.addHandler(handler)
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("reason %s", text, extra={"operator": text, "route": text})

    lines = stream.getvalue().rstrip("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    assert [line for line in lines[1:] if not line.startswith("  ")] == []
    if form is LogFormat.JSON:
        assert json.loads(lines[0])["event"].startswith("reason ")


def test_only_one_file_prints() -> None:
    """So that nothing of others reaches a terminal by another way."""
    own = ("console/output.py", "console/progress.py", "console/completion.py")
    allowed = {ROOT / name for name in (*own, "config/settings_reference.py")}
    printing = []
    for path in ROOT.rglob("*.py"):
        if path in allowed or path.relative_to(ROOT).parts[0] in ("dev", "demo"):
            continue
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called in ("print", "click.echo", "click.secho", "traceback.print_exc"):
                printing.append(f"{path}:{node.lineno}")
    assert printing == []


PASSWORD = "s3cr3t/p@ss:w0rd?x=1#y"


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://billing:{PASSWORD}@db.example:5432/billing",
        f"postgres://:{PASSWORD}@db.example/billing",
        f"could not connect to 'postgresql://billing:{PASSWORD}@db.example'",
        f"https://svc:{PASSWORD}@tokens.internal/{{shop}}",
        f"https://{PASSWORD}@pypi.example/simple",
        f"http://user:{PASSWORD}@[::1]:3128",
        f'"url": "socks5h://a:{PASSWORD}@proxy.example:1080"',
        "proxy svc:s3cr3t@proxy.example:3128 refused",
        "HTTPS_PROXY=svc:s3cr3t@proxy.example:3128",
        "host=db user=billing password=s3cr3t dbname=x",
        "host=db password = 's3cr3t with blanks' dbname=x",
        'connect(password="s3cr3t", host="db")',
        "postgresql://db/x?user=u&password=s3cr3t&sslpassword=s3cr3t",
        "GET https://api.example/x?access_token=s3cr3t&y=1",
        "KAFKA_SASL_PASSWORD=s3cr3t",
        "CLIENT_JWT_SECRET=s3cr3t STRIPE_API_KEY=s3cr3t",
    ],
)
def test_a_password_is_masked_wherever_it_is_in_an_address(text: str) -> None:
    for made in (mask_passwords(text), shown(text), mask_passwords(mask_passwords(text))):
        assert "s3cr3t" not in made
        assert "p@ss" not in made
        assert "********" in made


@pytest.mark.parametrize(
    "text",
    [
        "billing.commands.v1[3]@17",
        "operator:alice@corp.example",
        "redriven by olga@host at 12:00:00Z",
        "http://127.0.0.1:8000/ready",
        "shopify:anna.example",
        "KAFKA_SASL_PASSWORD is needed with KAFKA_SECURITY_PROTOCOL=SASL_SSL",
    ],
)
def test_what_is_not_a_password_is_not_masked(text: str) -> None:
    assert mask_passwords(text) == text


@pytest.mark.parametrize("unit", ["://", "a-", "a:", "=a:", "token", "://a:b", "password=", "'"])
def test_masking_takes_time_in_proportion_to_the_text(unit: str) -> None:
    def seconds(size: int) -> float:
        began = time.process_time()
        mask_passwords(unit * (size // len(unit)) + "@=")
        return time.process_time() - began

    assert seconds(200_000) < 20 * max(seconds(50_000), 0.05)


@pytest.mark.parametrize("options", [(), ("--json",)])
async def test_config_masks_passwords_in_addresses(options: tuple[str, ...]) -> None:
    url = "https://svc:s3cr3tpw@tokens.internal/{shop}"
    tokens = {"SHOPIFY_ACCESS_TOKENS_URL": url, "SHOPIFY_API_VERSION": "2026-10"}
    others = {"STRIPE_API_URL": "https://s3cr3tpw@stripe.example/v1"}
    env = environment("127.0.0.1:1", "p.", **tokens, **others)

    code, output = await run(env, "config", *options)

    assert code == 0
    assert "s3cr3tpw" not in output
    assert "https://********@tokens.internal/{shop}" in output
    assert "https://********@stripe.example/v1" in output


@pytest.mark.parametrize("error", [RuntimeError, ValueError, KeyError])
def test_a_traceback_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Any
) -> None:
    url = "postgresql://billing:pw%2Fw0rd@db/x"
    for name, value in environment("127.0.0.1:1", "p.", DATABASE_URL=url).items():
        monkeypatch.setenv(name, value)

    def fail() -> None:
        secret = environment("", "")["CLIENT_JWT_SECRET"]
        raise error(f"{url} pw/w0rd {secret} \x1b[2J https://a:b3b3b3@c")

    monkeypatch.setattr(cli, "cli", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()

    printed = capsys.readouterr().err
    assert ended.value.code == 70
    assert "Traceback" in printed
    for poison in ("w0rd", "client-secret-for-tests-0", "\x1b", "b3b3b3"):
        assert poison not in printed.partition("Error: ")[2]


async def test_a_wrong_argument_is_shown_without_controls() -> None:
    env = environment("127.0.0.1:1", "p.")

    for arguments in (("forget", "\x1b]0;x\x07"), ("dlq", "show", "\x1b[2J\u202e")):
        code, output = await run(env, *arguments)

        assert code == 2
        assert [c for c in output if not c.isprintable() and c != "\n"] == []


def test_an_explanation_is_printed_without_what_upstream_put_into_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for text in HOSTILE:
        said = account_text._details({"domain": text, "status": text})
        say(said)
        assert capsys.readouterr().out[:-1].isprintable()


async def test_a_page_shows_what_others_wrote_as_escapes(tmp_path: Path) -> None:
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}) as found:
        url = found.nodes[0].url
        path = "/ops/merchants?q=%1b%5b2J%E2%80%AEx%C2%9b%20postgres://u:s3cr3t@db"
        page = await get(url, path, {"Accept": "text/html", **operator_headers()})

    text = page.raw.decode()
    assert page.status == 404
    assert [c for c in text if not c.isprintable() and c not in "\n\t"] == []
    assert "\\x1b[2J\\u202ex" in text
    assert "s3cr3t" not in text


async def test_a_state_page_shows_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}) as found:
        node = found.nodes[0]
        why = "no answer from postgresql://u:s3cr3t@db/x\x1b[2J"
        monkeypatch.setattr(node.context.watchdog, "problems", lambda: [why])
        monkeypatch.setattr(node.context.watchdog, "warnings", lambda: [why])
        reply = await node.get("/ready")

    assert reply.status == 503
    assert b"s3cr3t" not in reply.raw
    assert reply.body["error"]["details"]["problems"] == [
        "no answer from postgresql://********@db/x\\x1b[2J"
    ]
