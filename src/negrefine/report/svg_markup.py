"""A drawing of matplotlib as markup that stands in an HTML page under a strict policy."""

from __future__ import annotations

import re
from html import escape
from xml.etree import ElementTree as ET

# Style properties that are attributes as well; the page's own style sheet sets the font.
_ATTRIBUTES = frozenset(
    (
        *("fill", "fill-opacity", "fill-rule", "opacity", "text-anchor", "font-size"),
        *("stroke", "stroke-width", "stroke-linejoin", "stroke-linecap", "stroke-opacity"),
        *("stroke-dasharray", "stroke-dashoffset"),
    )
)
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)px")


def inline_svg(drawing: bytes, *, key: str, label: str, description: str) -> str:
    """Return an `<svg>` element with a text alternative.

    Style attributes, which a Content-Security-Policy forbids, become presentation attributes;
    metadata, style sheets, fonts and unused ids go; coordinates keep two decimals.

    Args:
        drawing: What matplotlib wrote, with text as text.
        key: Letters and digits that no other drawing on the page has, to keep ids apart.
        label: What the drawing shows, short.
        description: The same in numbers.
    """
    root = ET.fromstring(drawing)  # noqa: S314 - matplotlib's own output
    used = set(re.findall(r"#([\w.:-]+)", drawing.decode("utf-8")))
    body = "".join(_markup(child, key, used) for child in root)
    return (
        f'<svg class="plot" viewBox="{escape(root.attrib["viewBox"])}" role="img" '
        f'aria-labelledby="{key}-title {key}-desc">'
        f'<title id="{key}-title">{escape(label)}</title>'
        f'<desc id="{key}-desc">{escape(description)}</desc>{body}</svg>'
    )


def _markup(element: ET.Element, key: str, used: set[str]) -> str:
    name = _local(element.tag)
    if name in ("metadata", "style"):
        return ""
    content = "".join(_markup(child, key, used) for child in element)
    content = escape((element.text or "").strip()) + content
    attributes = _attributes(element, key, used)
    if name == "g" and not attributes:
        return content
    if name in ("g", "defs", "clipPath") and not content:
        return ""
    text = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())
    return f"<{name}{text}>{content}</{name}>"


def _attributes(element: ET.Element, key: str, used: set[str]) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for full_name, value in element.attrib.items():
        name = _local(full_name)
        if name == "style":
            attributes |= _presentation(value)
        elif name == "id":
            if value in used:
                attributes["id"] = f"{key}-{value}"
        elif name == "href":
            attributes["href"] = f"#{key}-{value.removeprefix('#')}"
        elif name == "clip-path":
            attributes["clip-path"] = value.replace("url(#", f"url(#{key}-")
        else:
            attributes[name] = _NUMBER.sub(lambda m: f"{float(m[0]):.2f}", value)
    return attributes


def _presentation(style: str) -> dict[str, str]:
    attributes = {}
    for declaration in style.split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font" and (size := _SIZE.search(value)):
            attributes["font-size"] = size[1]
        elif name in _ATTRIBUTES:
            attributes[name] = value.removesuffix("px")
    return attributes


def _local(name: str) -> str:
    return name.rpartition("}")[2]
