"""Plain values of flags without pydantic, and none given twice.

typer 0.29 converts every value with a pydantic adapter, whose import takes 60 ms: as much as typer itself,
and half of what `flashctl decode` may take. Texts, numbers, booleans, paths and `Literal`s need none of it:
`make_plain` has them converted here and leaves everything else to typer. With a typer that works
otherwise it changes nothing.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import typer

from flashctl.cli.help import value_word

__all__ = ["built_in_chains", "completing", "make_plain", "namespaces", "one_of"]

_INTEGER: Final = re.compile(r"-?[0-9]{1,78}|0[xX][0-9a-fA-F]{1,64}")
_DECIMAL: Final = re.compile(r"-?[0-9]{1,78}(?:\.[0-9]{1,18})?(?:[eE][+-]?[0-9]{1,2})?")
_YES: Final = frozenset({"1", "true", "t", "yes", "y", "on"})
_NO: Final = frozenset({"0", "false", "f", "no", "n", "off"})


def one_of(flag: str, value: str, known: Collection[str]) -> str:
    """The value, if it is one of those that the flag knows.

    Raises:
        UsageError: It is not.
    """
    if value in known:
        return value
    from flashctl.core.settings.profile import suggestion
    from flashctl.errors import UsageError

    hint = suggestion(value, list(known)) or f"one of {', '.join(known)}"
    raise UsageError(f"{flag} {value!r}: not one of its values", hint=hint)


def completing(
    values: Iterable[str] | Callable[[], Iterable[str]], *, listed: bool = False
) -> Callable[[str], list[str]]:
    """An `autocompletion` that offers values; a function is asked for them when TAB is pressed.

    `listed` is for a flag that takes several separated by commas: the last of them is completed.
    """

    def complete(incomplete: str) -> list[str]:
        given, comma, last = incomplete.rpartition(",") if listed else ("", "", incomplete)
        known = values() if callable(values) else values
        return [given + comma + value for value in known if value.startswith(last)]

    return complete


def built_in_chains() -> list[str]:
    """The names that `--chain` knows, for `completing`."""
    from flashctl.op.registry import CHAINS

    return list(CHAINS)


def namespaces() -> list[str]:
    """The namespaces of JSON-RPC that a port may serve, for `completing`."""
    return ["eth", "net", "web3", "txpool", "debug", "miner", "admin"]


def make_plain(command: Any) -> Any:
    """Let a typer command or group, and what is below it, convert plain values here; returns it."""
    _use_plain_values(command.params)
    command.make_parser = functools.partial(_parser_of_single_values, command.make_parser)
    # The help option is made when a command line is parsed.
    command.get_help_option = functools.partial(_plain_help_option, command.get_help_option)
    for below in getattr(command, "commands", {}).values():
        make_plain(below)
    return command


def _parser_of_single_values(original: Callable[[Any], Any], ctx: Any) -> Any:
    """A parser that refuses a second value for a flag that takes one: the last would win unsaid."""
    parser = original(ctx)
    parse = parser.parse_args

    def parse_args(args: list[str]) -> Any:
        values, rest, order = parse(args)
        seen = set()
        for parameter in order:
            is_single = parameter.param_type_name == "option" and not (
                parameter.multiple or parameter.count or (parameter.is_flag and not parameter.secondary_opts)
            )
            if is_single and parameter in seen and not ctx.resilient_parsing:
                raise typer.BadParameter("given twice", ctx=ctx, param=parameter)
            seen.add(parameter)
        return values, rest, order

    parser.parse_args = parse_args
    return parser


def _plain_help_option(original: Callable[[Any], Any], ctx: Any) -> Any:
    option = original(ctx)
    if option is not None:
        _use_plain_values([option])
    return option


def _use_plain_values(parameters: Iterable[Any]) -> None:
    for parameter in parameters:
        if parameter.multiple and "header" in parameter.name:
            # A header has a blank in it, which elsewhere separates the elements of a variable.
            parameter.split_envvar_value = str.splitlines
        value = _plain_value(parameter)
        if value is not None:
            if parameter.metavar is None and parameter.param_type_name == "option" and not parameter.is_flag:
                parameter.metavar = value.word or value_word(parameter.name, _WORDS.get(value.kind, "TEXT"))
            parameter.get_runtime_param = functools.partial(_same, value)


def _same(value: _PlainValue) -> _PlainValue:
    return value


def _plain_value(parameter: Any) -> _PlainValue | None:
    """How to convert the parameter, if that is plain."""
    descriptor = getattr(parameter, "type_descriptor", None)
    if descriptor is None or not hasattr(parameter, "get_runtime_param"):
        return None
    info = descriptor.parameter_info
    if getattr(info, "parser", None) is not None or getattr(info, "click_type", None) is not None:
        return None
    annotation = descriptor.annotation
    if get_origin(annotation) is list:
        (annotation,) = get_args(annotation)
    if get_origin(annotation) is Literal and all(isinstance(word, str) for word in get_args(annotation)):
        words = get_args(annotation)
        return _PlainValue(functools.partial(_choice, words), annotation, word="|".join(words))
    convert = _CONVERTERS.get(annotation)
    if convert is None or (
        annotation is Path and any(getattr(info, name, False) for name in ("exists", "resolve_path"))
    ):
        return None
    bounds = getattr(info, "min", None), getattr(info, "max", None)
    return _PlainValue(convert, annotation, *bounds)


class _PlainValue:
    """Stands in for typer's conversion of one parameter."""

    def __init__(
        self,
        convert: Callable[[Any], Any],
        kind: Any,
        low: float | None = None,
        high: float | None = None,
        word: str = "",
    ) -> None:
        self._convert = convert
        self._low = low
        self._high = high
        self.kind = kind
        self.word = word
        """What stands for the value in the help; empty: follows from the flag's name and type."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value of the parameter, from text, a profile or a default."""
        many = param.multiple or param.nargs == -1
        if value is None:
            return () if many else None
        try:
            if not many:
                return self._one(value)
            if isinstance(value, str):
                raise ValueError("expected a list")
            return tuple([self._one(item) for item in value])
        except ValueError as error:
            raise typer.BadParameter(str(error), ctx=ctx, param=param) from None

    def _one(self, value: Any) -> Any:
        converted = self._convert(value)
        if self._low is not None and converted < self._low:
            raise ValueError(f"{converted} is less than {self._low:g}")
        if self._high is not None and converted > self._high:
            raise ValueError(f"{converted} is more than {self._high:g}")
        return converted


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value


def _choice(words: tuple[str, ...], value: Any) -> str:
    if value in words:
        return str(value)
    raise ValueError(f"{value!r} is not one of {', '.join(words)}")


def _integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(text := value.strip(" ")):
        return int(text, 16 if text[:2] in ("0x", "0X") else 10)
    raise ValueError(f"{value!r} is not an integer")


def _number(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and _DECIMAL.fullmatch(value.strip(" ")):
        return float(value)
    raise ValueError(f"{value!r} is not a number")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _YES or word in _NO:
        return word in _YES
    raise ValueError(f"{value!r} is neither true nor false")


def _path(value: Any) -> Path:
    if isinstance(value, Path):
        return value
    return Path(_text(value))


_CONVERTERS: Final[dict[Any, Callable[[Any], Any]]] = {
    str: _text,
    int: _integer,
    float: _number,
    bool: _boolean,
    Path: _path,
}

_WORDS: Final[dict[Any, str]] = {int: "N", float: "NUMBER", Path: "FILE"}
