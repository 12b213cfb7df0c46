"""What every command shares: its place among the roles, `--profile`, `--log-level`, `-v`, and for services
`--check` and `--ready-fd`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer

from flashctl.cli.environment import environment_name
from flashctl.cli.peers import peer_defaults
from flashctl.cli.values import completing
from flashctl.errors import UsageError

__all__ = [
    "KEYS_OF_ROLE", "ROLES", "SERVICES", "Common", "configure_role_logging", "load_settings", "read_common",
    "shared_parameters",
]  # fmt: skip

_PANEL: Final = "Profile, logging and operation"

LOG_LEVELS: Final = ("error", "warning", "info", "debug", "trace")
LOG_FORMATS: Final = ("text", "json")
"""As `core.service.log` has them, whose import would cost time at every TAB; a test compares."""

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

KEYS_OF_ROLE: Final[dict[str, set[str]]] = {}
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
    """Empty for a command that does not log, unless a level was given."""
    log_format: str
    verbosity: int
    """-q is -1, each -v adds 1; tracebacks of unexpected errors from 2."""
    ready_fd: int | None
    """Services: where to write `ready\\n` once every port listens."""
    check_only: bool = False
    """Services: end with 0 where the role would work: files are read, ports free, peers as expected."""


def shared_parameters(role: str, *, service: bool) -> list[inspect.Parameter]:
    """The flags that every command has, and those of services."""

    def load(context: typer.Context, value: str | None) -> str | None:
        if defaults := peer_defaults(role):
            context.default_map = {**defaults, **(context.default_map or {})}
        if value is not None and not context.resilient_parsing:
            is_given = comes_from(context, "profile") == "COMMANDLINE"
            if _LOADED in context.meta and not is_given:
                return value  # an argument named another one
            load_settings(context, role, value, needed=is_given)
        return value

    def profiles() -> list[str]:
        from flashctl.core.settings.profile import profile_names

        return profile_names()

    environment = functools.partial(environment_name, role)
    parameters = [
        _option(
            "profile", str | None, None, "--profile", "-P", is_eager=True, callback=load,
            autocompletion=completing(profiles), envvar=[environment("profile"), _PROFILE_OF_ALL],
            metavar="NAME|FILE", help="Settings to start from: a built-in profile, your own, or a file.",
        ),
        _option(
            "save_profile", Path | None, None, "--save-profile", metavar="FILE",
            help="Write the settings in effect to FILE, - for stdout, and exit.",
        ),
        _option(
            "log_level", str | None, None, "--log-level", metavar="LEVEL",
            autocompletion=completing(LOG_LEVELS),
            envvar=[environment("log_level"), "FLASHCTL_LOG", *(["LOG_LEVEL"] if service else [])],
            help=f"error, warning, info, debug or trace; {'info' if service else 'warning'} if not given.",
        ),
        _option(
            "log_format", str, _LOG_FORMAT, "--log-format", metavar="text|json",
            autocompletion=completing(LOG_FORMATS),
            envvar=[environment("log_format"), *(["LOG_FORMAT"] if service else [])],
            help="Log lines for people, or one JSON object a line.",
        ),
        _option("verbose", int, 0, "--verbose", "-v", count=True, help="Log one level more; twice for two."),
        _option("quiet", bool, False, "--quiet", "-q", help="Log errors only."),
    ]  # fmt: skip
    if service:
        parameters += [
            _option(
                "ready_fd", int | None, None, "--ready-fd", metavar="FD",
                help="File descriptor to write 'ready' to once every port listens.",
            ),
            _option(
                "check", bool, False, "--check",
                help="Start nothing: check settings, files, ports and peers, print a line each, and exit.",
            ),
        ]  # fmt: skip
    parameters.append(inspect.Parameter("_context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))
    return parameters


def _option(name: str, kind: Any, default: Any, *decls: str, **settings: Any) -> inspect.Parameter:
    info = typer.Option(*decls, show_envvar=False, rich_help_panel=_PANEL, **settings)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )


def _profile_keys(role: str) -> list[str]:
    return [*KEYS_OF_ROLE[role], "log_level", "log_format"]


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
            f"profile {profile.name} has no settings for {role}",
            hint=f"it has settings of {', '.join(sorted(profile.tables)) or 'no role'}",
        )
    context.meta[_LOADED] = profile.name
    if profile.notice:
        import sys

        from flashctl.core.output import escape

        print(f"flashctl: note: {escape(profile.notice)}", file=sys.stderr)
    settings = role_settings(profile, role, _profile_keys(role), [*ROLES])
    context.default_map = {**(context.default_map or {}), **settings}


def read_common(
    role: str, values: dict[str, Any], context: typer.Context, *, service: bool, logs: bool
) -> Common:
    quiet, verbose = values.pop("quiet"), values.pop("verbose")
    level, log_format = values.pop("log_level"), values.pop("log_format").lower()
    if quiet or verbose:
        if quiet and verbose:
            raise UsageError("-q and -v contradict each other")
        if comes_from(context, "log_level") == "COMMANDLINE":
            raise UsageError("--log-level and -v or -q both say how much is logged", hint="give one of them")
        level = None  # a flag goes before what environment and profile say
    verbosity = -1 if quiet else verbose
    if logs or level is not None or log_format != _LOG_FORMAT:
        level = _checked_level(level, verbosity, log_format, service=service)
    ready_fd, check_only = values.pop("ready_fd", None), values.pop("check", False) if service else False
    return Common(role, values.pop("profile"), level or "", log_format, verbosity, ready_fd, check_only)


def comes_from(context: typer.Context, parameter: str) -> str:
    """COMMANDLINE, ENVIRONMENT, DEFAULT_MAP (a profile) or DEFAULT."""
    source = context.get_parameter_source(parameter)
    return source.name if source is not None else "DEFAULT"


def _checked_level(level: str | None, verbosity: int, log_format: str, *, service: bool) -> str:
    """The level in effect, in whatever case it was written.

    Raises:
        UsageError: There is no such level, or no such format.
    """
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


def configure_role_logging(common: Common, context: typer.Context) -> None:
    from flashctl.core.service.log import LogFormat, LogLevel, configure_logging

    level = cast(LogLevel, common.log_level)
    again = None
    if common.profile is not None and comes_from(context, "log_level").startswith("DEFAULT"):
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
