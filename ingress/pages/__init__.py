"""The pages at `/`: what an operator looks at in a browser. Server-side HTML from the same readers as the HTTP interface.

One module for a page, its template beside it. Text of strangers goes through autoescape and `words.lines_of`; scripts and styles come
from `static/` only, so that the Content-Security-Policy can forbid everything else.
"""
