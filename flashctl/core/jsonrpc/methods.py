"""The table of methods that a server answers.

    methods = Methods()
    methods.register("eth_chainId", chain_id)                 # async def chain_id(params: list[Any]) -> Any
    methods.register_subscription("eth", "newHeads", heads)   # async def heads(params, subscription) -> None

A handler gets the positional parameters and returns what goes under `result`: strings, numbers, lists,
dicts, or an `orjson.Fragment` holding JSON that is encoded already. It raises `RpcError` or any
`FlashctlError` to fail.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial
from typing import Any, Protocol, Self

__all__ = [
    "Fallback",
    "Handler",
    "Methods",
    "PassOn",
    "SubscribeHandler",
    "Subscription",
    "optional",
    "required",
]

from flashctl.core.jsonrpc.errors import invalid_params
from flashctl.core.jsonrpc.namespaces import allows

Handler = Callable[[list[Any]], Awaitable[Any]]
"""Answers one method. Parameters are positional, as everywhere in Ethereum's APIs."""

Fallback = Callable[[str, bytes], Awaitable[bytes]]
"""Answers every method the table does not hold: the name and one whole request in, one whole response out,
both as JSON text. The response's `id` must be the request's."""


class PassOn(Exception):
    """Raised by a handler to leave a request to the fallback, which answers it byte for byte."""


class Subscription(Protocol):
    """A live `<namespace>_subscribe` of one WebSocket client."""

    @property
    def id(self) -> str:
        """What the client knows it by: `0x` and 32 hex digits."""

    @property
    def closed(self) -> bool:
        """Whether the client unsubscribed or went away."""

    def notify(self, result: Any) -> None:
        """Queue one notification; returns at once.

        Before the subscribe call itself has been answered, notifications wait for it. A client that lets
        more pile up than the server's limit is disconnected, never waited for.
        """

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when the subscription ends for whatever reason; at once if it has."""


SubscribeHandler = Callable[[list[Any], Subscription], Awaitable[None]]
"""Sets one subscription up: keep the subscription, `notify` it, stop at `on_close`. The parameters are
those after the kind. Raising refuses the subscription."""

OtherSubscribeHandler = Callable[[str, list[Any], Subscription], Awaitable[None]]
"""The same for whatever kind, which comes first."""


class Methods:
    """Names to handlers; complete before it is served."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._subscriptions: dict[str, dict[str, SubscribeHandler]] = {}
        self._others: dict[str, OtherSubscribeHandler] = {}

    def register(self, name: str, handler: Handler) -> None:
        """Answer `name` with `handler`; a later registration replaces an earlier one."""
        self._handlers[name] = handler

    def register_all(self, handlers: Iterable[tuple[str, Handler]]) -> None:
        """Register many."""
        for name, handler in handlers:
            self.register(name, handler)

    def register_subscription(self, namespace: str, kind: str, handler: SubscribeHandler) -> None:
        """Answer `<namespace>_subscribe` with first parameter `kind`."""
        self._subscriptions.setdefault(namespace, {})[kind] = handler

    def register_other_subscriptions(self, namespace: str, handler: OtherSubscribeHandler) -> None:
        """Answer `<namespace>_subscribe` with a kind that is not in the table, if it has one."""
        self._others[namespace] = handler

    def find(self, name: str) -> Handler | None:
        """The handler of a method, if it has one."""
        return self._handlers.get(name)

    def subscriptions(self, namespace: str) -> dict[str, SubscribeHandler] | None:
        """The kinds of subscription a namespace knows; None if it has none at all."""
        return self._subscriptions.get(namespace)

    def other_subscription(self, namespace: str, kind: str) -> SubscribeHandler | None:
        """What sets up a kind of subscription that is not in the table."""
        handler = self._others.get(namespace)
        return None if handler is None else partial(handler, kind)

    def only(self, namespaces: Collection[str]) -> Self:
        """A table of the methods and subscriptions of some namespaces; see `jsonrpc.namespaces`."""
        table = type(self)()
        table._handlers = {
            name: handler for name, handler in self._handlers.items() if allows(namespaces, name)
        }
        table._subscriptions = {
            namespace: kinds
            for namespace, kinds in self._subscriptions.items()
            if allows(namespaces, namespace)
        }
        table._others = {
            namespace: handler for namespace, handler in self._others.items() if allows(namespaces, namespace)
        }
        return table

    @property
    def names(self) -> list[str]:
        """Every method, sorted."""
        subscribing = [
            f"{namespace}_{verb}"
            for namespace in self._subscriptions
            for verb in ("subscribe", "unsubscribe")
        ]
        return sorted([*self._handlers, *subscribing])


def required(params: list[Any], index: int, name: str) -> Any:
    """The parameter at `index`.

    Raises:
        RpcError: -32602, in geth's words, if it is missing.
    """
    if index >= len(params) or params[index] is None:
        raise invalid_params(f"missing value for required argument {index}: {name}")
    return params[index]


def optional(params: list[Any], index: int, default: Any = None) -> Any:
    """The parameter at `index`, or `default` if it is absent or null."""
    if index >= len(params) or params[index] is None:
        return default
    return params[index]
