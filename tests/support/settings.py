"""Settings of a role changed by name, in whichever part of its config they are."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

__all__ = ["with_settings"]

Config = TypeVar("Config")


def with_settings(config: Config, **settings: Any) -> Config:
    """`config` with other values; a name is that of a part, of a field in one part, or `part_field`."""
    assert is_dataclass(config)
    own = {item.name for item in fields(config)}
    changed: Any = replace(config, **{name: value for name, value in settings.items() if name in own})
    for name, value in settings.items():
        if name in own:
            continue
        places = [
            (part, item.name)
            for part in own
            if is_dataclass(inner := getattr(changed, part))
            for item in fields(inner)
            if name in (item.name, f"{part}_{item.name}")
        ]
        assert len(places) == 1, f"{name} is in {places or 'no part'}"
        part, field_name = places[0]
        changed = replace(changed, **{part: replace(getattr(changed, part), **{field_name: value})})
    return changed  # type: ignore[no-any-return]
