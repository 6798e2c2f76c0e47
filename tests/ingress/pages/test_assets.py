"""What a browser gets from us: named by its hash, and nothing that the policy would forbid."""

import hashlib
import re
from pathlib import Path

import pytest

from ingress.pages import assets
from tests.ingress.pages.site import browser, site

FOLDER = Path(assets.__file__).parent
TEMPLATES = sorted((FOLDER / "templates").glob("*.html"))


async def test_files_are_named_by_their_hash_and_kept() -> None:
    """A changed file has another name, so the old one may be kept for good; other names there are none."""
    async with browser(site()) as client:
        for name in ("pages.css", "pages.js", "htmx.min.js", "icon.svg"):
            answer = await client.get(assets.asset(name))
            assert (answer.status_code, answer.content) == (200, (FOLDER / "static" / name).read_bytes())
            assert "immutable" in answer.headers["cache-control"]
        for name in ("pages.css", "README.md", "pages.000000000000.css", "..%2Faccess.py"):
            assert (await client.get(f"/static/{name}")).status_code == 404


def test_what_is_vendored_is_what_its_note_says() -> None:
    """The note names version, licence and hash."""
    note = (FOLDER / "static" / "README.md").read_text()
    assert hashlib.sha256((FOLDER / "static" / "htmx.min.js").read_bytes()).hexdigest() in note
    assert 'version:"2.0.10"' in (FOLDER / "static" / "htmx.min.js").read_text()


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_have_nothing_inline(template: Path) -> None:
    """The policy forbids inline scripts, styles and handlers; and nothing is marked as safe that is not."""
    text = template.read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:|hx-on|hx-vals=.js|\|\s*safe\b|autoescape", text)


def test_the_look_for_inline_things_can_fail() -> None:
    """One of each is found."""
    assert TEMPLATES
    for bad in ("<script>x</script>", '<b style="x">', '<b onclick="x">', "{{ x|safe }}"):
        assert re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:|hx-on|hx-vals=.js|\|\s*safe\b|autoescape", bad)
