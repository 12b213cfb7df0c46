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
* fills `common`, if the function asks for it, and sets logging up before the function runs.

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
import re
import sys
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer
from typer.models import ParameterInfo

from flashctl.errors import ExitCode, UsageError

__all__ = ["ROLES", "SERVICES", "Common", "command", "environment_name", "new_app"]

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

_SECRET_WORDS: Final = ("secret", "jwt_token", "jwt_hex", "api_key", "password", "private_key", "header")
"""Parts of the names of flags whose values are never written down; a header may carry a key."""

_LOG_FORMAT: Final = "text"

_USERINFO: Final = re.compile(r"://[^/@\s]+@")
"""A URL that carries credentials: redis://:password@host."""


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
    """Services: end with 0 where the role would start, its settings having been read and resolved."""


def new_app() -> typer.Typer:
    """The typer app of one role: plain help (rich costs 50 ms at every TAB) and no completion of its own."""
    return typer.Typer(
        rich_markup_mode=None,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def environment_name(role: str, parameter: str) -> str:
    """The environment variable of a flag: FLASHCTL_BOOST_BUILDER_URL for `builder_url` of boost."""
    return f"FLASHCTL_{role}_{parameter}".upper().replace("-", "_")


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
    keys = frozenset(parameter.name for parameter in own if not _is_context(parameter.annotation))
    _KEYS_OF_ROLE.setdefault(role, set()).update(keys)
    shared = _shared_parameters(role, service=service)

    @functools.wraps(function)
    def wrapper(**values: Any) -> int:
        common = _common(role, values, service=service, logs=logs)
        save_to, context = values.pop("save_profile"), values.pop("_context")
        if save_to is not None:
            return _save(save_to, role, keys, context)
        if logs:
            _configure_logging(common)
        for name, group in groups.items():
            values[name] = group._make(values.pop(field) for field in group._fields)
        result = function(**values, **dict.fromkeys(wants_common, common))
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
        elif hint is not Common:
            yield parameter.replace(annotation=hint)


def _is_group(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields")


def _with_environment(hint: Any, parameter: inspect.Parameter, role: str, *, bare: bool) -> Any:
    """The annotation of a flag with the environment variable of its role added."""
    if _is_context(hint):
        return hint
    kind, *notes = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
    info = next((copy(note) for note in notes if isinstance(note, ParameterInfo)), None) or typer.Option()
    declared = [info.envvar] if isinstance(info.envvar, str) else list(info.envvar or ())
    if bare:
        declared.insert(0, parameter.name.upper())
    info.envvar = [environment_name(role, parameter.name), *declared]
    info.show_envvar = False
    others = [note for note in notes if not isinstance(note, ParameterInfo)]
    return Annotated[kind, *others, info]  # type: ignore[misc, unused-ignore]


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
        if value is not None and not context.resilient_parsing:
            from flashctl.core.profile import load_profile, role_settings

            known = [*_KEYS_OF_ROLE[role], "log_level", "log_format"]
            context.default_map = role_settings(load_profile(value), role, known, [*ROLES])
        return value

    def names(incomplete: str) -> list[str]:
        from flashctl.core.profile import profile_names

        return [name for name in profile_names() if name.startswith(incomplete)]

    environment = functools.partial(environment_name, role)
    parameters = [
        option(
            "profile", str | None, None, "--profile", "-P", is_eager=True, callback=load,
            autocompletion=names, envvar=[environment("profile"), "FLASHCTL_PROFILE"], show_envvar=False,
            metavar="NAME|FILE", help="Settings to start from.",
        ),
        option(
            "save_profile", Path | None, None, "--save-profile", metavar="FILE",
            help="Write the settings in effect to FILE and exit.",
        ),
        option(
            "log_level", str | None, None, "--log-level", metavar="LEVEL", show_envvar=False,
            envvar=[environment("log_level"), "FLASHCTL_LOG"], help="error, warning, info, debug or trace.",
        ),
        option(
            "log_format", str, _LOG_FORMAT, "--log-format", metavar="FORMAT", show_envvar=False,
            envvar=[environment("log_format"), "LOG_FORMAT"], help="text or json.",
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
        parameters.append(option("check", bool, False, "--check", help="Check the settings and exit."))
    parameters.append(inspect.Parameter("_context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))
    return parameters


def _common(role: str, values: dict[str, Any], *, service: bool, logs: bool) -> Common:
    verbosity = -1 if values.pop("quiet") else 0
    verbosity += values.pop("verbose")
    level, log_format = values.pop("log_level"), values.pop("log_format")
    if logs or level is not None or log_format != _LOG_FORMAT:
        level = _checked_level(level, verbosity, log_format, service=service)
    ready_fd, check_only = values.pop("ready_fd", None), values.pop("check", False) if service else False
    return Common(role, values.pop("profile"), level or "", log_format, verbosity, ready_fd, check_only)


def _checked_level(level: str | None, verbosity: int, log_format: str, *, service: bool) -> str:
    """The level in effect.

    Raises:
        UsageError: There is no such level, or no such format.
    """
    from flashctl.core.log import LOG_FORMATS, LOG_LEVELS

    order = LOG_LEVELS
    start = order.index("info" if service else "warning")
    level = level or order[max(0, min(start + verbosity, len(order) - 1))]
    level = "warning" if level == "warn" else level
    if verbosity < 0:
        level = "error"
    if level not in LOG_LEVELS:
        raise UsageError(f"--log-level {level!r}: not a level", hint=f"levels: {', '.join(LOG_LEVELS)}")
    if log_format not in LOG_FORMATS:
        raise UsageError(
            f"--log-format {log_format!r}: not a format", hint=f"formats: {', '.join(LOG_FORMATS)}"
        )
    return level


def _configure_logging(common: Common) -> None:
    from flashctl.core.log import LogFormat, LogLevel, configure_logging

    configure_logging(cast(LogLevel, common.log_level), cast(LogFormat, common.log_format))


def _save(path: Path, role: str, keys: Collection[str], context: typer.Context) -> int:
    """Write the effective settings of a command, except secrets, to a profile."""
    from flashctl.core.profile import save_profile

    settings = {}
    for key in sorted(keys):
        value = context.params.get(key)
        if _is_secret(key, value):
            if value:
                print(f"flashctl: note: {key} is a secret and was not written", file=sys.stderr)
            continue
        settings[key] = _toml_value(value)
    save_profile(path, role, settings)
    print(f"flashctl: wrote [{role}] to {path}; use it with --profile {path}", file=sys.stderr)
    return int(ExitCode.OK)


def _is_secret(key: str, value: Any) -> bool:
    named = any(word in key for word in _SECRET_WORDS) and not key.endswith(
        ("_path", "_file", "_http_header")
    )
    texts = value if isinstance(value, list | tuple) else [value]
    return named or any(isinstance(text, str) and _USERINFO.search(text) for text in texts)


def _toml_value(value: Any) -> Any:
    plain = getattr(value, "value", value)  # of an enum
    if plain is None or isinstance(plain, bool | int | float | str):
        return plain
    if isinstance(plain, list | tuple):
        return [_toml_value(item) for item in plain]
    return str(plain)
