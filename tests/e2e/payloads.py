"""Fifty names that people could give to a label, a text or a project so that a page breaks or runs a script."""

from __future__ import annotations

_TAGS = [
    "<script>window.ran = 1</script>",
    "<img src=x onerror=window.ran=1>",
    "<svg/onload=window.ran=1>",
    '"><script>window.ran = 1</script>',
    "'><img src=x onerror='window.ran=1'>",
    "</title><script>window.ran=1</script>",
    "</table></details><script>window.ran=1</script>",
    "<iframe src=javascript:parent.ran=1></iframe>",
    "<body onload=window.ran=1>",
    "<style>@import 'http://127.0.0.1:9/x'; * {display: none}</style>",
    "<a href='javascript:window.ran=1'>press</a>",
    "<form action=http://127.0.0.1:9><button>x</button></form>",
    "<input autofocus onfocus=window.ran=1>",
    "<details open ontoggle=window.ran=1>",
    "<base href=http://127.0.0.1:9/>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9'>",
    "<object data=javascript:window.ran=1></object>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=window.ran=1>",
    "<!--",
    "]]><script>window.ran=1</script>",
    "&lt;script&gt;window.ran=1&lt;/script&gt;",
    "&#60;img src=x onerror=window.ran=1&#62;",
]
_QUOTES = [
    '" onmouseover="window.ran=1',
    "' onmouseover='window.ran=1",
    "` onmouseover=`window.ran=1",
    '" autofocus onfocus="window.ran=1',
    '\\";window.ran=1;//',
    "';window.ran=1;//",
    "${window.ran=1}",
    "{{ 7 * 7 }}{% raise %}",
    "{# no comment #}",
    "javascript:window.ran=1",
    "JaVaScRiPt:window.ran=1",
    "data:text/html,<script>window.ran=1</script>",
    '=HYPERLINK("http://127.0.0.1:9")',
    "%3Cscript%3Ewindow.ran=1%3C/script%3E",
    "\u2028window.ran=1\u2029",
]
_SHAPES = [
    "a" * 300,
    "W" * 300,
    "a word " * 43,
    "漢字" * 150,
    "👩\u200d👩\u200d👧\u200d👦" * 40,
    "🎉 party 🎉",
    "e" + "\u0301" * 60,
    "שלום עולם זה שם ארוך",
    "مرحبا بالعالم هذا اسم طويل",
    "\u202eright to left\u202c",
    "mixed שלום and English",
    "\u200b\u200d\ufeff hidden",
    "tab\tand\nnewline",
]
PAYLOADS = (*_TAGS, *_QUOTES, *_SHAPES)
assert len(PAYLOADS) == 50
"""A script that ran would set `window.ran`."""
