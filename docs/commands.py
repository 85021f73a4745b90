"""Write `docs/reference/commands.md` from the command line itself: ``python docs/commands.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.main import get_command

PAGE = Path(__file__).parent / "reference" / "commands.md"
HEAD = """# Commands

Written from the command line itself by `python docs/commands.py`; with `--help`, every command
prints the same. Every command that prints takes `--json`.

Exit codes:

- **0**: done.
- **1**: the command ran and met a fault. `validate` found one, `verify` could not repeat a trial, a
  run diverged, or titer itself failed.
- **2**: bad input. One sentence says what came, what is allowed, and what to do; nothing is
  written.
- **130**: stopped by Ctrl-C.
"""


def page() -> str:
    """The reference of all commands, as Markdown."""
    from titer.cli.app import app

    return HEAD + "".join(_commands(get_command(app), "titer"))


def _commands(command: Any, name: str) -> list[str]:
    if hasattr(command, "commands"):
        return [
            text
            for part in sorted(command.commands)
            if not command.commands[part].hidden
            for text in _commands(command.commands[part], f"{name} {part}")
        ]
    arguments = [item for item in command.params if item.param_type_name == "argument"]
    options = [item for item in command.params if item.param_type_name == "option"]
    words = " ".join([name, *(_placeholder(item) for item in arguments)])
    text = f"\n## {name}\n\n{_sentence(command.help)}\n\n```text\n{words} [OPTIONS]\n```\n"
    rows = [(_placeholder(item), item) for item in arguments]
    rows += [
        (", ".join(f"`{word}`" for word in (*item.opts, *item.secondary_opts)), item)
        for item in options
    ]
    if rows:
        text += "\n| | default | |\n| --- | --- | --- |\n"
        text += "".join(
            f"| {shown if '`' in shown else f'`{shown}`'} | {_default(item)} | {_help(item)} |\n"
            for shown, item in rows
        )
    return [text]


def _placeholder(argument: Any) -> str:
    name = argument.name.upper()
    return f"{name}..." if argument.nargs == -1 else name


def _default(item: Any) -> str:
    if item.required:
        return "required"
    if getattr(item, "is_flag", False):
        return ""
    return "" if item.default in (None, ()) else f"`{item.default}`"


def _help(item: Any) -> str:
    return _sentence(item.help).replace("|", "\\|")


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split()).replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
