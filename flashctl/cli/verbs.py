"""A role whose command line needs no verb: `flashctl boost --flags` serves, `flashctl boost debug` asks.

app = new_app()
serve_without_verb(app, "run")
"""

from __future__ import annotations

from typing import Any, ClassVar

import typer
import typer.core

from flashctl.cli.help import PlainHelp

__all__ = ["serve_without_verb"]


def serve_without_verb(app: typer.Typer, verb: str) -> None:
    """Let the command that is registered as `verb` be the one that is meant where none is named."""
    app.info.cls = type("_OfRole", (_Group,), {"verb": verb})


class _Nameless(typer.Context):
    """Of the command without a verb; help and errors call it by its role alone."""

    @property
    def command_path(self) -> str:
        return super().command_path.rstrip()


class _Group(PlainHelp, typer.core.TyperGroup):
    verb: ClassVar[str]

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in self.commands if name != self.verb]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = args[0] if args else "-"
        if first not in self.commands:
            if not first.startswith("-") and not ctx.resilient_parsing:
                self._refuse(ctx, first)
            args = [self.verb, *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, resolved, rest = super().resolve_command(ctx, args)
        if name == self.verb and resolved is not None:
            resolved.context_class = _Nameless
            name = None
        return name, resolved, rest

    def _refuse(self, ctx: Any, word: str) -> None:
        from flashctl.core.settings.profile import suggestion
        from flashctl.errors import UsageError

        others = sorted(set(self.commands) - {self.verb})
        role = ctx.command_path
        hint = suggestion(word, others) or f"{role} takes flags (--help), or is {role} {others[0]}"
        raise UsageError(f"{role} has no command {word!r}", hint=hint)
