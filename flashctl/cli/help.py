"""The help of a command: its flags in panels, each with its unit, its values and its default.

Plain text on purpose: rich would take 50 ms at every `--help`. Below 80 columns a flag's explanation stands
under the flag instead of beside it, and examples are broken where a shell reads on.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Final

import typer
import typer.core

__all__ = ["Command", "Formatter", "PlainHelp", "value_word"]

_ROWS_BESIDE: Final = 78
"""Columns from which an explanation stands beside its flag."""

_WIDEST: Final = 110
_NARROWEST: Final = 30

_FLAG_COLUMN: Final = 30

_UNBROKEN: Final = "\0"
"""Stands for a blank at which no line ends."""

_WORDS: Final = (
    (re.compile(r"_ms$"), "MS"),
    (re.compile(r"_port$"), "PORT"),
    (re.compile(r"_url$"), "URL"),
    (re.compile(r"_bytes$"), "BYTES"),
    (re.compile(r"_(addr|host)$|^host$"), "HOST"),
    (re.compile(r"_(path|file)$"), "FILE"),
    (re.compile(r"^datadir$"), "DIR"),
)
"""What stands for the value of a flag that declares no metavar, by the end of its name."""


def value_word(name: str, plain: str) -> str:
    """The word for a flag's value in the help: by the end of the flag's name, else `plain`."""
    return next((word for pattern, word in _WORDS if pattern.search(name)), plain)


_HelpFormatter: Final[Any] = typer.Context.formatter_class


class Formatter(_HelpFormatter):  # type: ignore[misc]
    """Lays help out at the width of the terminal."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        import shutil

        columns = shutil.get_terminal_size().columns
        self.width = max(_NARROWEST, min(columns, _WIDEST) - 2)

    def write_heading(self, heading: str) -> None:
        """The title of a section."""
        indent = " " * self.current_indent
        self.write(self._fill(f"{heading}:", indent, indent))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Names and explanations in a column of their own."""
        listed = list(rows)
        self.write_rows(listed, min(col_max, max(len(name) for name, _ in listed) + col_spacing))

    def write_rows(self, rows: Iterable[tuple[str, str]], column: int) -> None:
        """Names, and explanations `column` characters further right; below them where there is no room."""
        indent = " " * self.current_indent
        beside = self.width >= _ROWS_BESIDE
        rest = " " * (self.current_indent + (column if beside else 4))
        for name, explanation in rows:
            if beside and explanation and len(name) <= column - 2:
                self.write(self._fill(explanation, f"{indent}{name:<{column}}", rest))
                continue
            self.write(self._fill(name, indent, rest))
            if explanation:
                self.write(self._fill(explanation, rest, rest))

    def _fill(self, text: str, first: str, rest: str) -> str:
        """A paragraph with an indent for its first line and one for the rest; words stay whole."""
        lines = textwrap.wrap(
            text, self.width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
        )
        return "\n".join(lines).replace(_UNBROKEN, " ") + "\n"


class PlainHelp:
    """Mixed into typer's commands and groups: help in the layout of `Formatter`."""

    def get_help(self: Any, ctx: Any) -> str:
        """The whole help text."""
        formatter = Formatter()
        self.format_help(ctx, formatter)
        return str(formatter.getvalue()).rstrip("\n")


class Command(PlainHelp, typer.core.TyperCommand):
    """A command of a role: help by panels, and examples at the end."""

    examples: ClassVar[str] = ""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """`[OPTIONS]` and the arguments, those with brackets of their own as they are."""
        pieces = [self.options_metavar] if self.options_metavar else []
        for parameter in self.get_params(ctx):
            if parameter.param_type_name == "argument" and not parameter.hidden:  # type: ignore[attr-defined, unused-ignore]
                word = _argument_word(parameter)
                pieces.append(word if "[" in word or parameter.required else f"[{word}]")
        return pieces

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, then flags by panel in the order of declaration, then the commands beside it."""
        panels: dict[str, list[tuple[str, str]]] = {}
        parameter: Any
        for parameter in self.get_params(ctx):
            if getattr(parameter, "hidden", False):
                continue
            if parameter.param_type_name == "argument":
                panels.setdefault("Arguments", []).append((_argument_word(parameter), parameter.help or ""))
            else:
                panel = getattr(parameter, "rich_help_panel", None) or _panel_of_rest(panels)
                panels.setdefault(panel, []).append((_flag_names(parameter), _explanation(parameter, ctx)))
        for title, rows in panels.items():
            with formatter.section(title):
                formatter.write_rows(rows, _FLAG_COLUMN)
        if (group := _group_of(self, ctx)) is not None:
            group.format_commands(ctx.parent, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The closing words, and examples that may be pasted into a shell."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write_text(self.epilog)
        if self.examples:
            with formatter.section("Examples"):
                for line in _examples(self.examples, formatter.width - formatter.current_indent):
                    formatter.write(f"{' ' * formatter.current_indent}{line}\n")

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Flags and, as the first word, the commands beside one that needs no name."""
        found = super().shell_complete(ctx, incomplete)
        group = _group_of(self, ctx)
        if group is None or incomplete.startswith("-") or _has_flags(ctx):
            return found
        return [*group.shell_complete(ctx.parent, incomplete), *found]


def _panel_of_rest(panels: Iterable[str]) -> str:
    """Where a flag without a panel goes: `--help` to the last one, others to the general one."""
    *_, last = ("Options", *panels)
    return "Options" if last == "Arguments" else last


def _argument_word(parameter: Any) -> str:
    word = str(parameter.metavar or parameter.name.upper())
    return f"{word}..." if parameter.nargs != 1 and not parameter.metavar else word


def _flag_names(parameter: Any) -> str:
    """`-o, --output FORM` or `--wait / --no-wait`."""
    names = ", ".join(sorted(parameter.opts, key=lambda name: name.startswith("--")))
    if parameter.secondary_opts:
        return f"{names} / {', '.join(parameter.secondary_opts)}"
    if parameter.is_flag or parameter.count:
        return names
    return f"{names} {parameter.metavar or 'VALUE'}"


def _explanation(parameter: Any, ctx: Any) -> str:
    notes = [note for note in (_default(parameter, ctx), _range(parameter)) if note]
    if parameter.multiple:
        notes.append("repeatable")
    if parameter.required:
        notes.append("required")
    remark = f"[{'; '.join(notes)}]".replace(" ", _UNBROKEN) if notes else ""
    return "  ".join(filter(None, [parameter.help, remark]))


def _default(parameter: Any, ctx: Any) -> str:
    resilient, ctx.resilient_parsing = ctx.resilient_parsing, True
    try:
        value = parameter.get_default(ctx, call=False)
    finally:
        ctx.resilient_parsing = resilient
    if value is None or value == "" or parameter.show_default is False or parameter.count:
        return ""
    if isinstance(value, bool):
        return f"default: {'on' if value else 'off'}" if value or parameter.secondary_opts else ""
    if isinstance(value, list | tuple):
        return f"default: {', '.join(map(str, value))}" if value else ""
    return f"default: {getattr(value, 'value', value)}"


def _range(parameter: Any) -> str:
    """The bounds of a number, where they say more than its unit does."""
    low, high = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if parameter.count or parameter.metavar == "PORT":
        return ""
    if high is not None:
        return f"{low or 0:g} to {high:g}"
    return f"at least {low:g}" if low and low > 1 else ""


def _group_of(command: Any, ctx: Any) -> Any:
    """The group of a command that runs where none is named; None for other commands."""
    group: Any = ctx.parent.command if ctx.parent is not None else None
    verb = getattr(group, "verb", "")
    return group if verb and group.commands.get(verb) is command else None


def _has_flags(ctx: Any) -> bool:
    sources = (ctx.get_parameter_source(name) for name in ctx.params)
    return any(source is not None and source.name == "COMMANDLINE" for source in sources)


def _examples(text: str, width: int) -> Iterator[str]:
    """Lines of examples no longer than `width`: a remark goes above its command, a command is continued."""
    lines = text.strip("\n").splitlines()
    if all(len(line) <= width for line in lines):
        yield from lines
        return
    for line in re.sub(r" *\\\n *", " ", text.strip("\n")).splitlines():
        command, _, remark = line.partition("  ")
        if remark := remark.strip(" #"):
            yield from textwrap.wrap(f"# {remark}", width, subsequent_indent="# ")
        yield from _continued(command, width)


def _continued(command: str, width: int) -> Iterator[str]:
    """A command over several lines that a shell reads as one."""
    words = re.findall(r"(?:'[^']*'|\"[^\"]*\"|[^\s'\"])+", command)
    line = ""
    for word in words:
        if line and len(line) + len(word) + 3 > width:
            yield f"{line} \\"
            line = f"    {word}"
        else:
            line = f"{line} {word}" if line else word
    yield line
