"""The `flashctl` command: finds the subcommand, and turns whatever happens into one line and an exit code.

Help and completion run at every TAB, so this module and what it imports stay small: a subcommand's module
is imported when it is called (or its own help asked for), its summary for `flashctl --help` comes from a
table.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer
import typer.core
import typer.main

from flashctl.cli.help import PlainHelp
from flashctl.cli.options import ROLES, SERVICES
from flashctl.cli.peers import role_by_name
from flashctl.cli.values import make_plain
from flashctl.errors import ExitCode, FlashctlError, Terminated, exit_code_for

__all__ = ["COMPLETE_VARIABLE", "main"]

COMPLETE_VARIABLE = "_FLASHCTL_COMPLETE"
"""The variable with which a shell's completion script calls; its value says what is asked."""


class _Roles(PlainHelp, typer.core.TyperGroup):
    """The group of subcommands, each loaded from `flashctl.cli.<name>` on first use."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(ROLES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in ROLES:
            return None
        if cmd_name not in self.commands:
            module = importlib.import_module(f"flashctl.cli.{cmd_name}")
            self.add_command(make_plain(typer.main.get_command(module.app)), cmd_name)
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in ROLES:
            from flashctl.core.settings.profile import suggestion
            from flashctl.errors import UsageError

            hint = suggestion(args[0], list(ROLES)) or "flashctl --help lists them"
            raise UsageError(f"no command named {args[0]!r}", hint=hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(ROLES.items()))


_app = typer.Typer(
    cls=_Roles,
    name="flashctl",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from flashctl import __version__

        typer.echo(f"flashctl {__version__}")
        raise typer.Exit


@_app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", "-V", is_eager=True, callback=_version, help="Show the version."
    ),
) -> None:
    """The Flashblocks stack of the OP Stack: build, relay, fan out, serve and inspect 200 ms sub-blocks."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run flashctl with `argv` (default: the process's own) and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if argv is None and (role := role_by_name()) is not None:
        arguments.insert(0, role)
    try:
        if argv is None and arguments and arguments[0] in SERVICES:
            from flashctl.core.service.signals import before_start

            before_start()
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        code = ExitCode.PIPE
    except Exception as error:
        code = _report(error, arguments)
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except Terminated:
        code = ExitCode.TERMINATED
    return int(code)


def _run(arguments: list[str]) -> int:
    command = make_plain(typer.main.get_command(_app))
    if os.environ.get(COMPLETE_VARIABLE):
        command.main(args=arguments, prog_name="flashctl", complete_var=COMPLETE_VARIABLE)
    try:
        # Not `command.main()`: it ends with exit code 1 when the reader of stdout has gone away.
        with command.make_context("flashctl", arguments) as context:
            return int(command.invoke(context) or 0)
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        return ExitCode.INTERRUPTED


def _report(error: Exception, arguments: list[str]) -> int:
    """Say what went wrong on stderr, in one line and perhaps a hint; the exit code."""
    if isinstance(error, BrokenPipeError):
        _silence_stdout()
        return ExitCode.PIPE
    if isinstance(error, FlashctlError):
        _complain(str(error) or type(error).__name__, error.hint)
    elif hasattr(error, "format_message"):  # typer's own complaints about the command line
        return _report_usage(error, arguments)
    elif isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        _complain(f"{error.strerror or error}{where}")
    else:
        _complain(f"unexpected {type(error).__name__}: {error}", "run it with -vv for the traceback")
    if _verbosity(arguments) >= 2:
        import traceback

        traceback.print_exception(error)
    return exit_code_for(error)


def _report_usage(error: Any, arguments: list[str]) -> int:
    context: Any = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(context.get_help())
        return ExitCode.USAGE
    path = context.command_path if context is not None else _called(arguments)
    _complain(error.format_message().rstrip("."), f"{path} --help")
    return int(getattr(error, "exit_code", ExitCode.USAGE))


def _called(arguments: list[str]) -> str:
    """The command that was typed, for errors of the option parser, which carry no context."""
    role, action = (*arguments, "", "")[:2]
    if role not in ROLES:
        return "flashctl"
    actions = {
        command.name for command in importlib.import_module(f"flashctl.cli.{role}").app.registered_commands
    }
    return f"flashctl {role} {action}" if action in actions else f"flashctl {role}"


def _complain(what: str, hint: str | None = None) -> None:
    from flashctl.core.output import escape

    print(f"flashctl: error: {escape(what)}", file=sys.stderr)
    if hint:
        print(f"hint: {escape(hint)}", file=sys.stderr)


def _verbosity(arguments: list[str]) -> int:
    """How often -v was given; counted here because an error may come before the flags are parsed."""
    return sum(
        argument.count("v")
        if argument.startswith("-v") and set(argument[1:]) == {"v"}
        else argument == "--verbose"
        for argument in arguments
    )


def _silence_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not complain about the closed
    pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
