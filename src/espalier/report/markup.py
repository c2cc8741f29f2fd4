"""HTML built from escaped parts: what is no markup already can never become any."""

from __future__ import annotations

import base64
import html
import unicodedata

from espalier.report.names import UNSAFE

# Elements that have no content and no end.
_VOID = frozenset({"img", "br", "hr", "meta"})


class Markup(str):
    """Text that is HTML already; all other text is escaped where it is put into an element."""

    __slots__ = ()


def element(name: str, *children: str, **attributes: str | int | None) -> Markup:
    """One element with its content.

    Args:
        name: Of the element.
        children: ``Markup`` as it is, other text escaped.
        attributes: A trailing underscore is left out (``class_``), others become hyphens; None
            leaves the attribute out.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{joined(*children)}</{name}>")


def joined(*parts: str) -> Markup:
    """Parts one after the other; what is no markup is escaped."""
    return Markup("".join(part if isinstance(part, Markup) else escaped(part) for part in parts))


def escaped(text: str) -> Markup:
    """Any text as HTML that shows it: on one line, control and reorder marks made visible."""
    composed = unicodedata.normalize("NFC", text)
    return Markup(html.escape("".join(map(_visible, composed)), quote=True))


def _visible(character: str) -> str:
    if character.isspace():
        return " "
    return "\ufffd" if unicodedata.category(character) in UNSAFE else character


def name(text: str) -> Markup:
    """A name of the user's; its direction of writing touches nothing around it."""
    return element("bdi", text)


def path_name(path: str) -> Markup:
    """The same for a path, which a browser may break after each folder."""
    folders = [escaped(part) for part in path.split("/")]
    return element("bdi", Markup("/<wbr>".join(folders)))


def data_uri(kind: str, data: bytes) -> str:
    """Bytes as an address that needs no file and no network; ``kind`` such as ``image/png``."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def bullets(items: list[Markup], **attributes: str | int | None) -> Markup:
    """A list without numbers; nothing where it is empty."""
    if not items:
        return Markup()
    return element("ul", *(element("li", item) for item in items), **attributes)


def html_table(
    caption: str, heads: list[str], rows: list[list[str]], **attributes: str | int | None
) -> Markup:
    """A table whose first column names its rows; it scrolls by itself where it is too wide."""
    head = element("tr", *(element("th", cell, scope="col") for cell in heads))
    body = (
        element("tr", element("th", row[0], scope="row"), *(element("td", c) for c in row[1:]))
        for row in rows
    )
    parts = (element("caption", caption), element("thead", head), element("tbody", *body))
    table = element("table", *parts, **attributes)
    return element("div", table, class_="wide", tabindex=0, role="region", aria_label=caption)
