"""Write docs/api.md from the docstrings of the public names: ``python -m tools.api``.

It decides how a docstring is laid out, and what is public: ``MODULES``.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"

MODULES = (
    "centcert",
    "centcert.stores",
    "centcert.provider.events",
    "centcert.frontend.events",
    "centcert.testing",
)

HEAD = """\
# The library's public names

<!-- Made by `python -m tools.api` from the docstrings; a test compares. -->

These names, their parameters and what they are documented to do follow
[semantic versioning](https://semver.org/): after 1.0 they change incompatibly only with the
first number of the version, and what is to go is deprecated for one minor version before.
Until then the second number says so, and the changelog names every such change. Names that
do not stand here can change at any time, and so can the wording of errors, logs and reprs.
An error may become a subclass of what is documented; an event may gain fields; enumerations
and unions of events may gain members.

The package is typed (PEP 561): what stands here passes `mypy --strict`.
"""

_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")
_ITEM = re.compile(r"(\*{0,2}[\w.]+): (.*)")


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for path in MODULES:
        module = importlib.import_module(path)
        parts.append(f"## `{path}`\n\n{text_of(module)}")
        parts += [part for name in names(module) for part in describe(name, getattr(module, name))]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def names(module: ModuleType) -> list[str]:
    """Return a module's public names: its ``__all__``, else the classes that it defines."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return [name for name in listed if not name.startswith("__")]
    return [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and name[0] != "_"
    ]


def describe(name: str, value: object) -> Iterator[str]:
    """Describe a class with its public members, a function, or a constant."""
    if inspect.isclass(value):
        bases = [base.__name__ for base in value.__bases__ if base is not object]
        of = f"({', '.join(bases)})" if bases else ""
        if issubclass(value, BaseException) or not value.__doc__:
            yield f"### `class {name}{of}`\n\n{text_of(value)}"
        else:
            yield f"### `class {name}{signature(value)}`\n\n{text_of(value)}"
        for member, found in vars(value).items():
            if member.startswith("_") or isinstance(value.__dict__.get(member), type):
                continue
            yield from _member(f"{name}.{member}", found)
    elif callable(value):
        kind = "async " if inspect.iscoroutinefunction(value) else ""
        yield f"### `{kind}{name}{signature(value)}`\n\n{text_of(value)}"
    else:
        yield f"### `{name}`\n\n`{value!r}`"


def _member(name: str, found: object) -> Iterator[str]:
    if isinstance(found, property):
        yield f"#### `{name}`\n\n{text_of(found)}"
        return
    function = found.__func__ if isinstance(found, classmethod | staticmethod) else found
    if inspect.isfunction(function) and function.__doc__:
        kind = "async " if inspect.iscoroutinefunction(function) else ""
        yield f"#### `{kind}{name}{signature(function)}`\n\n{text_of(function)}"


def signature(value: object) -> str:
    """Return a signature on one line, without ``self``."""
    if not callable(value):
        return ""
    try:
        found = inspect.signature(value)
    except ValueError:  # of a class written in C
        return ""
    kept = [one for name, one in found.parameters.items() if name not in {"self", "cls"}]
    text = str(found.replace(parameters=kept)).replace("'", "")
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def text_of(value: object) -> str:
    """Return a docstring as Markdown: its sections as lists."""
    lines: list[str] = []
    in_section = False
    for line in (inspect.getdoc(value) or "").splitlines():
        heading = _SECTION.fullmatch(line)
        if heading:
            in_section = True
            lines += [f"**{heading[1]}**", ""]
            continue
        if in_section and line and not line.startswith(" "):
            in_section = False
        if in_section and line.startswith("    "):
            item = _ITEM.fullmatch(line.strip())
            indented = line.startswith("     ")
            lines.append(
                f"- `{item[1]}`: {item[2]}" if item and not indented else f"  {line.strip()}"
            )
        else:
            lines.append(line)
    return "\n".join(lines).replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page())
