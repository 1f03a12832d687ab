"""The last part of a `--help`, as of a man page: environment, exit codes, examples."""

from collections.abc import Mapping, Sequence

SETTINGS = {"(all others)": "`billing-stream docs settings`"}
"""For commands that read the settings of the whole service."""

EXIT_INTERRUPTED = 130
"""As a shell has it of what SIGINT ended."""

EXIT_WRONG = "wrong usage or settings, or no broker answers"


def help_epilog(
    exits: Mapping[int, str], *examples: str, environment: Mapping[str, str] | None = SETTINGS
) -> str:
    """The `epilog` of a click command.

    Lines are kept as they are (with the character \\\\b), so that commands can be copied.
    """
    parts = []
    if environment:
        parts.append(_section("Environment", _table(environment)))
    parts.append(_section("Exit codes", _table({str(code): text for code, text in exits.items()})))
    parts.append(_section("Examples", examples))
    return "\n\n".join(parts)


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join(["\b", f"{title}:", *(f"  {line}" for line in lines)])


def _table(rows: Mapping[str, str]) -> list[str]:
    width = max(len(name) for name in rows)
    return [f"{name:{width}}  {text}" for name, text in rows.items()]
