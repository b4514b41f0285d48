"""Rules read no clock, throw no dice and do no I/O: they import nothing that could."""

from __future__ import annotations

import ast
from pathlib import Path

import ballast.mall.rules

ALLOWED = {
    "__future__", "collections.abc", "datetime", "enum", "hashlib", "itertools", "math", "re", "typing", "unicodedata",
    "urllib.parse", "uuid", "msgspec", "ballast.errors",
}  # fmt: skip
CLOCKS_AND_DICE = {"now", "utcnow", "today", "uuid1", "uuid4", "uuid7", "open", "print", "input"}


def test_rules_import_and_call_only_what_is_pure() -> None:
    files = sorted(Path(ballast.mall.rules.__file__).parent.glob("*.py"))
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "."]
            for name in names:
                assert name in ALLOWED or name.startswith("ballast.mall.rules."), f"{file.name} imports {name}"
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                assert called not in CLOCKS_AND_DICE, f"{file.name}:{node.lineno} calls {called}"
