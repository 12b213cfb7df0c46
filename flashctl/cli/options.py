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
* names variables of the environment that nobody reads, and refuses a single-valued flag given twice.

A command of many flags takes them in groups: a parameter annotated with a `NamedTuple` stands for the flags
that its fields declare.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer
from typer.models import ArgumentInfo, ParameterInfo

from flashctl.cli.environment import environment_name, unread_variables
from flashctl.cli.peers import peer_defaults
from flashctl.errors import ExitCode, UsageError

__all__ = ["ROLES", "SERVICES", "Common", "command", "load_settings", "new_app"]

ROLES: Final[Mapping[str, str]] = {
    "devnet": "Run the whole Flashblocks pipeline on this machine, in one command.",
    "builder": "Build blocks as a series of flashblocks and publish them.",
    "boost": "Sit between consensus client, builder and fallback engine.",
    "proxy": "Fan one flashblocks stream out to many clients.",
    "rpc": "Serve JSON-RPC with preconfirmed pending state.",
    "watch": "Tail, record and measure a flashblocks stream.",
    "decode": "Explain transactions, flashblocks, blocks and receipts.",
}
"""Subcommand to summary, in the order of the help. Each is the module `flashctl.cli.<name>` and a profile
table."""

SERVICES: Final = frozenset({"devnet", "builder", "boost", "proxy", "rpc"})
"""Those that run until a signal."""

Function = typing.TypeVar("Function", bound=Callable[..., Any])

_KEYS_OF_ROLE: Final[dict[str, set[str]]] = {}
"""What the table of a role may hold: the flags of all its commands, so that `boost debug` reads its port from
the profile that `boost` runs on."""

_LOG_FORMAT: Final = "text"

_LOADED: Final = "flashctl.profile"
"""Key in the context's own notes: the profile whose settings are in force."""

_PROFILE_OF_ALL: Final = "FLASHCTL_PROFILE"
"""Of whatever command: one without settings in it goes on with its defaults."""


@dataclass(frozen=True, slots=True)
class Common:
    """The settings every command shares."""

    role: str
    profile: str | None
    log_level: str
    """Empty where nothing logs and nobody asked."""
    log_format: str
    verbosity: int
    """-q is -1, each -v adds 1; tracebacks of unexpected errors from 2."""
    ready_fd: int | None
    """Services: where to write `ready\\n` once every port listens."""
    check_only: bool = False
    """Services: end with 0 where the role would work: files are read, ports free, peers as expected."""


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
    warnings only. One that never logs says so with `logs`, and starts 5 ms earlier. `bare_environment` lets
    every flag be set by its own name alone too, as in the env files of a tool that this one replaces.
    """

    def decorate(function: Function) -> Function:
        wrapper = _wrap(function, role, service=service, logs=logs, bare_environment=bare_environment)
        wrapper.__doc__ = inspect.getdoc(function)
        app.command(name or role, epilog=_epilog(role, example), **settings)(wrapper)
        return function

    return decorate


def _epilog(role: str, example: str) -> str:
    variable = environment_name(role, "<FLAG>")
    text = f"Every flag is also a key of [{role}] in a profile, and {variable} in the environment."
    if not example:
        return text
    # \b keeps typer from filling the lines as one paragraph.
    return f"{text}\n\n\b\nExamples:\n" + "\n".join(f"  {line}" for line in example.strip().splitlines())


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
    _KEYS_OF_ROLE.setdefault(role, set()).update(keys)
    shared = _shared_parameters(role, service=service)

    @functools.wraps(function)
    def wrapper(**values: Any) -> int:
        save_to, context = values.pop("save_profile"), values.pop("_context")
        common = _common(role, values, context, service=service, logs=logs)
        if save_to is not None:
            from flashctl.cli.saving import save_settings

            return save_settings(save_to, role, keys, context.params)
        if logs:
            _configure_logging(common, context)
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
            for name, kind in typing.get_type_hints(hint, include_extras=True).items():
                default = hint._field_defaults[name]
                yield inspect.Parameter(name, parameter.KEYWORD_ONLY, default=default, annotation=kind)
        elif hint is not Common and not _is_context(hint):
            yield parameter.replace(annotation=hint)


def _is_group(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields")


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


def _shared_parameters(role: str, *, service: bool) -> list[inspect.Parameter]:
    def option(name: str, kind: Any, default: Any, *decls: str, **settings: Any) -> inspect.Parameter:
        return inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[kind, typer.Option(*decls, **settings)],
        )

    def load(context: typer.Context, value: str | None) -> str | None:
        if defaults := peer_defaults(role):
            context.default_map = {**defaults, **(context.default_map or {})}
        if value is not None and not context.resilient_parsing:
            is_given = _comes_from(context, "profile") == "COMMANDLINE"
            if _LOADED in context.meta and not is_given:
                return value  # an argument named another one
            load_settings(context, role, value, needed=is_given)
        return value

    def names(incomplete: str) -> list[str]:
        from flashctl.core.settings.profile import profile_names

        return [name for name in profile_names() if name.startswith(incomplete)]

    environment = functools.partial(environment_name, role)
    parameters = [
        option(
            "profile", str | None, None, "--profile", "-P", is_eager=True, callback=load,
            autocompletion=names, envvar=[environment("profile"), _PROFILE_OF_ALL], show_envvar=False,
            metavar="NAME|FILE", help="Settings to start from.",
        ),
        option(
            "save_profile", Path | None, None, "--save-profile", metavar="FILE",
            help="Write the settings in effect to FILE (-: stdout) and exit.",
        ),
        option(
            "log_level", str | None, None, "--log-level", metavar="LEVEL", show_envvar=False,
            envvar=[environment("log_level"), "FLASHCTL_LOG", *(["LOG_LEVEL"] if service else [])],
            help="error, warning, info, debug or trace.",
        ),
        option(
            "log_format", str, _LOG_FORMAT, "--log-format", metavar="FORMAT", show_envvar=False,
            envvar=[environment("log_format"), *(["LOG_FORMAT"] if service else [])], help="text or json.",
        ),
        option(
            "verbose", int, 0, "--verbose", "-v", count=True, show_default=False,
            help="More detail; again for more.",
        ),
        option("quiet", bool, False, "--quiet", "-q", help="Errors only."),
    ]  # fmt: skip
    if service:
        parameters.append(
            option(
                "ready_fd", int | None, None, "--ready-fd", metavar="N", help="Write 'ready' there when up."
            )
        )
        parameters.append(
            option(
                "check",
                bool,
                False,
                "--check",
                help="Check settings, files, ports and peers, and exit.",
            )
        )
    parameters.append(inspect.Parameter("_context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))
    return parameters


def _profile_keys(role: str) -> list[str]:
    return [*_KEYS_OF_ROLE[role], "log_level", "log_format"]


def load_settings(context: typer.Context, role: str, name: str, *, needed: bool = True) -> None:
    """Make the table of `role` in a profile the defaults of a command that is being parsed.

    Raises:
        UsageError: There is no such profile, it is wrong, another one was loaded before, or it has no such
            table although it is `needed`.
    """
    from flashctl.core.settings.profile import load_profile, role_settings

    profile = load_profile(name)
    if (other := context.meta.get(_LOADED)) is not None:
        raise UsageError(f"two profiles, {other} and {profile.name}", hint="one may extend the other")
    if needed and role not in profile.tables:
        raise UsageError(
            f"profile {profile.name} says nothing about {role}",
            hint=f"it has settings of {', '.join(sorted(profile.tables)) or 'no role'}",
        )
    context.meta[_LOADED] = profile.name
    if profile.notice:
        import sys

        from flashctl.core.output import escape

        print(f"flashctl: note: {escape(profile.notice)}", file=sys.stderr)
    settings = role_settings(profile, role, _profile_keys(role), [*ROLES])
    context.default_map = {**(context.default_map or {}), **settings}


def _common(
    role: str, values: dict[str, Any], context: typer.Context, *, service: bool, logs: bool
) -> Common:
    quiet, verbose = values.pop("quiet"), values.pop("verbose")
    level, log_format = values.pop("log_level"), values.pop("log_format").lower()
    if quiet or verbose:
        if quiet and verbose:
            raise UsageError("-q and -v contradict each other")
        if _comes_from(context, "log_level") == "COMMANDLINE":
            raise UsageError("--log-level and -v or -q both say how much is logged", hint="give one of them")
        level = None  # a flag goes before what environment and profile say
    verbosity = -1 if quiet else verbose
    if logs or level is not None or log_format != _LOG_FORMAT:
        level = _checked_level(level, verbosity, log_format, service=service)
    ready_fd, check_only = values.pop("ready_fd", None), values.pop("check", False) if service else False
    return Common(role, values.pop("profile"), level or "", log_format, verbosity, ready_fd, check_only)


def _comes_from(context: typer.Context, parameter: str) -> str:
    """COMMANDLINE, ENVIRONMENT, DEFAULT_MAP (a profile) or DEFAULT."""
    source = context.get_parameter_source(parameter)
    return source.name if source is not None else "DEFAULT"


def _checked_level(level: str | None, verbosity: int, log_format: str, *, service: bool) -> str:
    """The level in effect, in whatever case it was written.

    Raises:
        UsageError: There is no such level, or no such format.
    """
    from flashctl.core.service.log import LOG_FORMATS, LOG_LEVELS

    order = LOG_LEVELS
    start = order.index("info" if service else "warning")
    own = "error" if verbosity < 0 else order[min(start + verbosity, len(order) - 1)]
    wanted = (level or own).strip().lower()
    wanted = "warning" if wanted == "warn" else wanted
    if wanted not in LOG_LEVELS:
        raise UsageError(f"--log-level {level!r}: not a level", hint=f"levels: {', '.join(LOG_LEVELS)}")
    if log_format not in LOG_FORMATS:
        raise UsageError(
            f"--log-format {log_format!r}: not a format", hint=f"formats: {', '.join(LOG_FORMATS)}"
        )
    return wanted


def _configure_logging(common: Common, context: typer.Context) -> None:
    from flashctl.core.service.log import LogFormat, LogLevel, configure_logging

    level = cast(LogLevel, common.log_level)
    again = None
    if common.profile is not None and _comes_from(context, "log_level").startswith("DEFAULT"):
        again = functools.partial(_level_of_profile, common)
    configure_logging(level, cast(LogFormat, common.log_format), again=again)


def _level_of_profile(common: Common) -> Any:
    """The level that the profile says now; the command line's own where it says none."""
    from flashctl.core.settings.profile import load_profile, role_settings

    assert common.profile is not None
    settings = role_settings(load_profile(common.profile), common.role, _profile_keys(common.role), [*ROLES])
    level = settings.get("log_level")
    if common.verbosity or level is None:
        return _checked_level(None, common.verbosity, _LOG_FORMAT, service=common.role in SERVICES)
    return _checked_level(str(level), 0, _LOG_FORMAT, service=True)


def _tell_of_unread(role: str, *, service: bool, logs: bool) -> None:
    for line in unread_variables(role, ROLES, _KEYS_OF_ROLE[role], service=service):
        if logs:
            import logging

            logging.getLogger("flashctl.settings").warning("%s", line)
        else:
            import sys

            print(f"flashctl: warning: {line}", file=sys.stderr)
