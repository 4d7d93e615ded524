"""HTML that is safe by construction: whatever is not `Markup` is escaped.

Labels, file names and configuration come from users and recordings, so no other module of this
package joins tags and text by hand.
"""

from __future__ import annotations

import re
from html import escape as html_escape
from typing import Final

_MINUS: Final = re.compile(r"(?<![\w)])-(?=\d)")


class Markup(str):
    """Text that is already HTML."""

    __slots__ = ()


EMPTY: Final = Markup("")


def escape(content: str) -> Markup:
    """Return `content` as HTML, escaped unless it is `Markup` already.

    Control characters are replaced: no name may move the cursor of whoever views the source.

    Examples
    --------
    >>> escape("a < b")
    'a &lt; b'
    >>> escape(element("b", "R&D"))
    '<b>R&amp;D</b>'
    """
    if isinstance(content, Markup):
        return content
    return Markup(html_escape(printable(content), quote=True))


def printable(text: str) -> str:
    """Return `text` with every unprintable character but the newline replaced by U+FFFD."""
    return "".join(
        sign if sign.isprintable() or sign == "\n" else "\N{REPLACEMENT CHARACTER}" for sign in text
    )


def join(*parts: str) -> Markup:
    """Return the parts, each escaped, one after the other."""
    return Markup("".join(escape(part) for part in parts))


def true_minus(content: str) -> Markup:
    """Return `content` with the hyphen before a number, at the start or in an interval, as a minus.

    A minus is as wide as a digit, so that columns line up; the hyphens of dates stay.

    Examples
    --------
    >>> true_minus("-0.5 [-1.0, 2012-01-02]")
    '−0.5 [−1.0, 2012-01-02]'
    """
    if isinstance(content, Markup):
        return content
    return Markup(_MINUS.sub("\N{MINUS SIGN}", escape(content)))


def element(tag: str, *children: str, **attributes: str) -> Markup:
    """Return one HTML element.

    Parameters
    ----------
    tag : str
        Name from this package's own source, never from data.
    *children : str
        Escaped unless `Markup`.
    **attributes : str
        ``class_`` stands for ``class``, ``data_plot`` for ``data-plot``.

    Examples
    --------
    >>> element("p", "x > 1", class_="note", data_key='"')
    '<p class="note" data-key="&quot;">x &gt; 1</p>'
    """
    names = (f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"' for name, value in attributes.items())
    return Markup(f"<{tag}{''.join(names)}>{join(*children)}</{tag}>")
