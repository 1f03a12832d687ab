"""Count the words and forms that this project does not use; a count may fall, never rise.

    python -m shipping.prose [--write]
    python -m shipping.prose --message FILE

`make lint` runs the first. What is allowed today is in shipping/prose.json, by group and file;
--write takes away what is gone. `prose: ok` excepts its line. --message checks the subject of a
commit.
"""

import argparse
import ast
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

COUNTS = "shipping/prose.json"
EXCEPTED = "prose: ok"
GENERATED = ("docs/settings.md",)  # Its words are read in the code.
SUBJECT_MAX = 72

BANNED = {  # A word or phrase, whatever its case: what to use instead.
    r"told|tells?|telling": "publish, log, report, notify",
    r"said": "the noun: command, payload, message",
    r"nobody|whoever|whose": "name the actor",
    r"(?:what|who) is(?! new| this)": "a noun",
    r"is none": "is missing",
    r"(?<!there\s)(?:is|are|was|were) no(?! more| longer| way| need| reason)": "is not a",
    r"of ours|ours": "name the owner",
    r"anew": "again, re-",
    r"meanwhile": "during ...",
    r"beside": "next to, compared with",
    r"at hand": "available",
    r"for ever": "permanently",
    r"as good as": "equivalent to",
    r"as a rule": "usually",
    r"by hand": "manually",
    r"so (?:many|long|often)(?! as)": "N, for DURATION",
    r"the most(?=\s?[.,;:)|]|$)": "peak",
    r"\d+ %": "12%",
    r"(?:go|goes|went|going) on": "continue",
    r"(?:get|gets|got|getting) on": "make progress",
    r"(?:come|comes|came) of": "result from",
    r"stands? (?:in|on|at|there|where|still|elsewhere)": "is stored in",
    r"mend(?:s|ed|ing)?": "fix",
    r"(?:makes?|made) (?:no )?sense": "is (in)valid",
    r"as (?:it|they|all) must be": "correct",
    r"pa(?:y|ys|id) back": "refund",
    r"sen[dt]s? (?:it |them )?again": "redrive, retry",
    r"in work": "in flight",
    r"put aside|let go of|seen to|thrown away": "reject, release, resolve, discard",
    r"of the wire": "TLS and SASL",
    r"Leave it|Give them|Take them": "verb + object",
    r"Expected `\w+` matching regex": "translate the validator's text",
}
_SPACED = {words.replace(" ", r"\s+"): instead for words, instead in BANNED.items()}
FOUND = re.compile(rf"\b(?:{'|'.join(_SPACED)})(?!\w)", re.I)
INSTEAD = [(re.compile(rf"(?:{words})(?!\w)", re.I), use) for words, use in _SPACED.items()]

BLOCK = re.compile(r"^ *```.*?^ *```|<!--.*?-->", re.M | re.S)
MADE = re.compile(r"<!-- made by .*", re.S)  # To the end of the page; its words are in the code.
INLINE = re.compile(r"`[^`]+`|(?<=\])\([^)]*\)")
RELEASED = re.compile(r"^## \d+\.\d+\.\d+ .*", re.M | re.S)
TAG = re.compile(r"<(style|script)\b.*?</\1>|\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}|<[^>]*>", re.S)
VALUE = re.compile(r'^ +(summary|description): .*(\n {8,}.*)*|"(title|description)": ".*"', re.M)
QUERY = re.compile(r"\b(SELECT|CREATE|INSERT INTO|UPDATE|DELETE FROM)\s")
FORMS = {  # The first group of the pattern is what is shown.
    "question headings": (r"^#+ +(.*\?)$", "a task or a noun phrase"),
    "one-word headings": (r"^#+ +([A-Z]?[a-z-]+)$", "a task: verb and object"),
    "empty header cells": (r"^(?=\|.*(\| *\|)).*\n\|[-:| ]+\|$", "a name for each column"),
    "runbook addresses": (r"\brunbook_url: *(?!https?://)(\S+)", "an absolute address"),
    "test names": (r"^ *(?:async )?def (test_\w{66,})", "at most 70 characters"),
}


class Hit(NamedTuple):
    """A word or form at a line of a file, and what to use instead; counted for its group."""

    group: str
    line: int
    word: str
    instead: str
    file: str = ""


Check = Callable[[str], Iterator[Hit]]


def checks(root: Path) -> Iterator[tuple[Path, Check]]:
    """Each file that is read, and how. A how-to page is read twice, for different things."""
    patterns: dict[str, Check] = {
        "*.md": _document,
        "docs/**/*.md": _document,
        "web/**/templates/*.html": lambda text: _words("templates", _blank(TAG, text)),
        "deploy/prometheus/alerts.yml": _alerts,
        "deploy/grafana/**/*.json": _alerts,
        "billing_stream/**/*.py": _code,
        "agents/**/*.py": _code,
        "tables/**/*.py": _code,
        "web/**/*.py": _code,
        "tests/**/test_*.py": lambda text: _forms("test names", text),
    }
    for pattern, check in patterns.items():
        for path in sorted(root.glob(pattern)):
            if path.relative_to(root).as_posix() not in GENERATED:
                yield path, check
    (guides,) = (
        entry["How to"]
        for entry in yaml.safe_load((root / "mkdocs.yml").read_text())["nav"]
        if "How to" in entry
    )
    for page in guides:
        yield root / "docs" / page, _guide


def hits(root: Path) -> Iterator[Hit]:
    """All that is found in the files of a project, but for lines that are excepted."""
    for path, check in checks(root):
        text = path.read_text()
        lines = text.splitlines()
        for hit in check(text):
            if EXCEPTED not in lines[hit.line - 1]:
                yield hit._replace(file=path.relative_to(root).as_posix())


def _document(text: str) -> Iterator[Hit]:
    text = _blank(BLOCK, _blank(MADE, _blank(RELEASED, text)))
    yield from _words("documents", _blank(INLINE, text))
    yield from _forms("question headings", text)
    yield from _forms("empty header cells", text)


def _guide(text: str) -> Iterator[Hit]:
    return _forms("one-word headings", _blank(BLOCK, text))


def _alerts(text: str) -> Iterator[Hit]:
    for value in VALUE.finditer(text):
        yield from _words("alerts", _blank(TAG, value[0]), _line(text, value))
    yield from _forms("runbook addresses", text)


def _code(text: str) -> Iterator[Hit]:
    lines = text.splitlines()
    seen: set[ast.AST] = set()
    parts: Sequence[ast.expr]
    for node in ast.walk(ast.parse(text)):
        if node in seen:
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            group, parts = "docstrings", [node.value]
        elif isinstance(node, ast.JoinedStr):
            group, parts = "strings", node.values
        elif isinstance(node, ast.Constant):
            group, parts = "strings", [node]
        else:
            continue
        seen.update(parts)
        texts = (part.value if isinstance(part, ast.Constant) else "·" for part in parts)
        words = "".join(map(str, texts))
        # A single word is a name; queries are full of names.
        if " " not in words or QUERY.search(words):
            continue
        for hit in _words(group, words):
            written = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            there = (number for number in written if hit.word.split()[0] in lines[number - 1])
            yield hit._replace(line=next(there, node.lineno))


def _words(group: str, text: str, first: int = 1) -> Iterator[Hit]:
    for found in FOUND.finditer(text):
        instead = next(use for words, use in INSTEAD if words.match(text, found.start()))
        yield Hit(group, first - 1 + _line(text, found), " ".join(found[0].split()), instead)


def _forms(group: str, text: str) -> Iterator[Hit]:
    pattern, instead = FORMS[group]
    for found in re.finditer(pattern, text, re.M):
        yield Hit(group, _line(text, found), found[1], instead)


def _blank(pattern: re.Pattern[str], text: str) -> str:
    """The text with dots in place of what matches; its lines stay where they are."""
    return pattern.sub(lambda found: re.sub(r"\S", "·", found[0]), text)


def _line(text: str, found: re.Match[str]) -> int:
    return text.count("\n", 0, found.start()) + 1


def compare(root: Path, *, write: bool) -> int:
    """Compare with what is allowed, or store it; the exit code. Prints what differs."""
    path = root / COUNTS
    stored: dict[str, dict[str, str]] = json.loads(path.read_text()) if path.exists() else {}
    found = list(hits(root))
    rose, fell = [], []
    for group in sorted({*stored, *(hit.group for hit in found)}):
        allowed = Counter(
            (file, word)
            for file, words in stored.get(group, {}).items()
            for word in words.split("; ")
        )
        now = Counter((hit.file, hit.word.lower()) for hit in found if hit.group == group)
        if now.total() < allowed.total():
            fell.append(f"{group} {allowed.total()} -> {now.total()}")
        if now.total() > allowed.total():
            rose.append(f"{group}: {now.total()} found, {allowed.total()} allowed. New:")
            rose += [
                f'  {hit.file}:{hit.line}: "{hit.word}"; use: {hit.instead}'
                for hit in found
                if hit.group == group and (hit.file, hit.word.lower()) in now - allowed
            ]
    if write and (not rose or not path.exists()):
        path.write_text(_allowed(found))
    elif rose:
        print(*rose, sep="\n")
        print(f"Reword them (terms: docs/glossary.md), or except a line with `{EXCEPTED}`.")
        return 1
    elif fell:
        print(f"Less than {COUNTS} allows: {', '.join(fell)}. Lower it:")
        print("  python -m shipping.prose --write")
    return 0


def _allowed(found: list[Hit]) -> str:
    """What was found as JSON, a line per file: branches that change different files merge."""
    words: dict[str, dict[str, str]] = {}
    for group, _, word, _, file in sorted(found, key=lambda hit: hit.word.lower()):
        files = words.setdefault(group, {})
        files[file] = f"{files[file]}; {word.lower()}" if file in files else word.lower()
    return json.dumps(words, indent=1, sort_keys=True) + "\n"


def check_subject(message: str) -> int:
    """Check the length of a commit message's first line; the exit code."""
    lines = [line for line in message.splitlines() if line.strip() and line[0] != "#"]
    subject = lines[0] if lines else ""
    # Git writes these itself.
    if len(subject) <= SUBJECT_MAX or subject.startswith(("Merge ", "Revert ", "fixup! ")):
        return 0
    print(f"The subject has {len(subject)} characters, {SUBJECT_MAX} are allowed:\n  {subject}")
    return 1


def main(arguments: list[str] | None = None) -> int:
    """Do what the arguments say; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m shipping.prose")
    parser.add_argument("--write", action="store_true", help=f"store lower counts in {COUNTS}")
    parser.add_argument("--message", type=Path, help="check the subject of this commit message")
    parser.add_argument("--root", type=Path, default=Path(), help="the project (default: here)")
    options = parser.parse_args(arguments)
    if options.message:
        return check_subject(options.message.read_text())
    return compare(options.root, write=options.write)


if __name__ == "__main__":
    sys.exit(main())
