"""How a subcommand declares its flags, and what it gets for free.

A role writes one typer function per command, in `cli/<role>.py`, and decorates it:

    app = new_app()

    @command(app, "proxy", service=True, example="flashctl proxy --upstream-ws ws://127.0.0.1:1112")
    def proxy(
        upstream_ws: Annotated[list[str], typer.Option(envvar="UPSTREAM_WS", help="Stream to fan out.")],
        listen_addr: Annotated[str, typer.Option(help="Where clients connect.")] = "127.0.0.1:8545",
        *,
        common: Common,
    ) -> ExitCode:
        '''Fan one flashblocks stream out to many clients.'''
        from flashctl.proxy.service import run     # imported when it runs, never at the top

        return run(ProxyConfig(...), common)

The decorator then

* gives every flag the environment variable FLASHCTL_<ROLE>_<FLAG> in front of those it declares (the names
  that operators of the upstream tools have in their compose files);
* adds `--profile/-P` and `--save-profile`, `--log-level`, `--log-format`, `-v`, `-q`, and for services
  `--ready-fd` and `--check`, which the function honours by returning before it runs anything;
* fills `common`, and a `typer.Context`, if the function asks for them, and sets logging up before it runs;
* names FLASHCTL_ variables of the environment that match no flag, and refuses a single-valued
  flag given twice.

A command of many flags takes them in groups: a parameter annotated with a `NamedTuple` stands for the flags
that its fields declare, which share a panel of the help under the first line of its docstring. A flag of few
values is a `Literal`: they are checked, completed and shown. Where no `metavar` is given, the word for a
value follows from the flag's name and type (`--stale-after-ms MS`, see `help.value_word`).

Precedence: flag > environment > profile > default. It is the order in which typer itself looks: a profile
becomes the `default_map` of the command. The docstring's first line is the summary in `flashctl --help`,
`example` is shown at the end of the command's own help. What the function returns is the exit code (None:
0); errors it raises are printed by `app.main`.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from typing import Annotated, Any

import typer
from typer.models import ArgumentInfo, ParameterInfo

from flashctl.cli.common import (
    KEYS_OF_ROLE,
    ROLES,
    SERVICES,
    Common,
    configure_role_logging,
    load_settings,
    read_common,
    shared_parameters,
)
from flashctl.cli.environment import environment_name, unread_variables
from flashctl.cli.help import Command
from flashctl.errors import ExitCode

__all__ = ["ROLES", "SERVICES", "Common", "command", "load_settings", "new_app"]

Function = typing.TypeVar("Function", bound=Callable[..., Any])


def new_app() -> typer.Typer:
    """The typer app of one role: plain help (rich costs 50 ms at every TAB) and no completion of its own."""
    return typer.Typer(
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def command(
    app: typer.Typer,
    role: str,
    *,
    name: str | None = None,
    service: bool = False,
    logs: bool = True,
    bare_environment: bool = False,
    example: str = "",
    **settings: Any,
) -> Callable[[Function], Function]:
    """Register a typer function as a command of `role`; the module docstring tells what comes with it.

    `name` defaults to the role; `settings` go to `typer.Typer.command`. A service logs at info, a tool
    warnings only. One that never logs sets `logs=False`, and starts 5 ms earlier. `bare_environment` lets
    every flag be set by its own name alone too, as in the env files of a tool that this one replaces.
    """

    def decorate(function: Function) -> Function:
        wrapper = _wrap(function, role, service=service, logs=logs, bare_environment=bare_environment)
        wrapper.__doc__ = inspect.getdoc(function)
        kind = type("_WithExamples", (Command,), {"examples": example})
        app.command(name or role, epilog=_epilog(role), cls=kind, **settings)(wrapper)
        return function

    return decorate


def _epilog(role: str) -> str:
    variable = environment_name(role, "<FLAG>")
    return f"Every flag is also a key of [{role}] in a profile, and {variable} in the environment."


def _wrap(
    function: Callable[..., Any], role: str, *, service: bool, logs: bool, bare_environment: bool
) -> Any:
    """A function with the signature typer should see, that splits the shared options off again."""
    hints = typing.get_type_hints(function, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if _is_group(hint)}
    own = [
        parameter.replace(
            annotation=_with_environment(parameter.annotation, parameter, role, bare=bare_environment)
        )
        for parameter in _own_parameters(function, hints)
    ]
    wants_common = [name for name, hint in hints.items() if hint is Common]
    wants_context = [name for name, hint in hints.items() if _is_context(hint)]
    keys = frozenset(parameter.name for parameter in own if not _is_argument(parameter.annotation))
    KEYS_OF_ROLE.setdefault(role, set()).update(keys)
    shared = shared_parameters(role, service=service)

    @functools.wraps(function)
    def wrapper(**values: Any) -> int:
        save_to, context = values.pop("save_profile"), values.pop("_context")
        common = read_common(role, values, context, service=service, logs=logs)
        if save_to is not None:
            from flashctl.cli.saving import save_settings

            return save_settings(save_to, role, keys, context.params)
        if logs:
            configure_role_logging(common, context)
        _tell_of_unread(role, service=service, logs=logs)
        for name, group in groups.items():
            values[name] = group._make(values.pop(field) for field in group._fields)
        given = dict.fromkeys(wants_common, common) | dict.fromkeys(wants_context, context)
        result = function(**values, **given)
        return int(result) if result is not None else int(ExitCode.OK)

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in [*own, *shared]]
    del wrapper.__wrapped__
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def _own_parameters(function: Callable[..., Any], hints: Mapping[str, Any]) -> Iterator[inspect.Parameter]:
    """The flags that a function declares, one by one or in groups, with their evaluated annotations."""
    for parameter in inspect.signature(function).parameters.values():
        hint = hints[parameter.name]
        if _is_group(hint):
            panel = _panel(hint)
            for name, kind in typing.get_type_hints(hint, include_extras=True).items():
                default, kind = hint._field_defaults[name], _in_panel(kind, panel)
                yield inspect.Parameter(name, parameter.KEYWORD_ONLY, default=default, annotation=kind)
        elif hint is not Common and not _is_context(hint):
            yield parameter.replace(annotation=hint)


def _is_group(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields")


def _panel(group: type) -> str:
    """The heading of a group's flags in the help: its docstring's first line."""
    return (inspect.getdoc(group) or group.__name__).splitlines()[0].rstrip(".")


def _in_panel(hint: Any, panel: str) -> Any:
    """The annotation of a flag that has no panel of its own, in that of its group."""
    kind, *notes = typing.get_args(hint)
    infos = [copy(note) for note in notes if isinstance(note, ParameterInfo)]
    for info in infos:
        info.rich_help_panel = info.rich_help_panel or panel
    others = [note for note in notes if not isinstance(note, ParameterInfo)]
    return Annotated[kind, *others, *infos]  # type: ignore[misc, unused-ignore]


def _with_environment(hint: Any, parameter: inspect.Parameter, role: str, *, bare: bool) -> Any:
    """The annotation of a flag with the environment variable of its role added."""
    kind, *notes = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
    info = next((copy(note) for note in notes if isinstance(note, ParameterInfo)), None) or typer.Option()
    declared = [info.envvar] if isinstance(info.envvar, str) else list(info.envvar or ())
    if bare:
        declared.insert(0, parameter.name.upper())
    info.envvar = [environment_name(role, parameter.name), *declared]
    info.show_envvar = False
    others = [note for note in notes if not isinstance(note, ParameterInfo)]
    return Annotated[kind, *others, info]  # type: ignore[misc, unused-ignore]


def _is_argument(hint: Any) -> bool:
    """Whether it is what a command works on rather than a setting."""
    return any(isinstance(note, ArgumentInfo) for note in typing.get_args(hint))


def _is_context(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, typer.Context)


def _tell_of_unread(role: str, *, service: bool, logs: bool) -> None:
    for line in unread_variables(role, ROLES, KEYS_OF_ROLE[role], service=service):
        if logs:
            import logging

            logging.getLogger("flashctl.settings").warning("%s", line)
        else:
            import sys

            print(f"flashctl: warning: {line}", file=sys.stderr)
