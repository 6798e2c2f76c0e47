"""The pages in a real browser over a whole installation: questions an operator has, in few clicks; live, by keyboard, without scripts.

Needs a Chromium; screenshots are kept in tests/artifacts/pages.
"""

import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from infra.settings import Settings
from tests.ingress.pages.test_actions import body
from tests.installation import Installation
from tests.test_dead_letters import Poison, sent_texts

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.servers,
    pytest.mark.timeout(240),
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the path (Debian: apt-get install chromium)"),
]

PHONES = ("15550007771", "15550007772", "15550007773")
SHOTS = Path(__file__).parents[2] / "artifacts" / "pages"
CLICKS_MAX = 4
HOSTILE = "<img src=x onerror=alert(1)> \u202egnp.exe <script>alert(2)</script>"
EDGES = ["webhooks", "raw", "outbound", "sent", "status", "ledger", "inbound, outbound, sent, status", "dead-letters"]
_QUIET = ("gpu", "quic", "background-networking", "component-update", "sync")
_ARGUMENTS = ["--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{each}" for each in _QUIET)]


class Operator:
    """Somebody with a mouse who counts; whatever the browser complains of is kept."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.clicks = 0
        self.complaints: list[str] = []
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))

    async def click(self, words: str, role: str = "link") -> None:
        self.clicks += 1
        await self.page.get_by_role(role, name=words).first.click()  # type: ignore[arg-type]  # a role by its name

    async def shot(self, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=str(SHOTS / f"{name}.png"), full_page=True)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def operator(browser: Browser, installation: Installation, *, scripts: bool = True, phone: bool = False) -> AsyncIterator[Operator]:
    """Yield somebody who has just logged in."""
    size = {"width": 390, "height": 844} if phone else {"width": 1200, "height": 800}
    context = await browser.new_context(viewport=size, java_script_enabled=scripts, color_scheme="dark" if phone else "light")  # type: ignore[arg-type]
    try:
        page = await context.new_page()
        page.set_default_timeout(30_000)
        found = Operator(page)
        await page.goto(f"{installation.url}/")
        await page.fill("#key", installation.settings.admin_key.get_secret_value())
        await page.click("main button")
        yield found
    finally:
        await context.close()


async def test_questions_of_an_operator(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why a customer got no answer, and the failures once more, in at most four clicks each; and nothing that a browser complains of."""
    expect.set_options(timeout=30_000)
    async with Installation(settings) as installation, chromium() as browser:
        poison = Poison(installation.model, monkeypatch)
        for phone in PHONES[:2]:
            assert await installation.post(body(phone, "poison")) == 200
        await installation.platform.books.wait_for("accepted", 2, timeout_s=60)

        async with operator(browser, installation) as asking:
            page = asking.page
            await asking.click("Conversations")
            await expect(page.locator(".rows > li")).to_have_count(2)
            await asking.shot("conversations")
            await page.keyboard.press("/")
            await page.keyboard.type(f"+{PHONES[0]}")
            await page.keyboard.press("Enter")
            await asking.click(f"+{PHONES[0]}")
            await expect(page.locator(".notice.bad")).to_contain_text("Not answered: the agent failed")
            await asking.shot("thread")
            assert asking.clicks <= CLICKS_MAX
            await asking.click("Timeline")
            await expect(page.locator(".hops li.bad .detail")).to_contain_text("failed")
            await asking.shot("timeline")
            assert asking.clicks <= CLICKS_MAX
            assert asking.complaints == []

        poison.cured = True
        async with operator(browser, installation, phone=True) as redriving:
            await redriving.click("Dead letters")
            await redriving.click("Redrive all 2", "button")
            await redriving.shot("redrive-phone")
            await redriving.click("Redrive them now", "button")
            await expect(redriving.page.locator("h1")).to_contain_text("Redrove 2 events")
            assert redriving.clicks <= CLICKS_MAX
            wide = await redriving.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 390
            assert redriving.complaints == []
        await installation.platform.books.wait_for("accepted", 4, timeout_s=60)
        assert sent_texts(installation, PHONES[0])[-1] == "echo: poison"


async def see_a_topic(watching: Operator, installation: Installation) -> None:
    """See what is in a topic, and what comes into it, up to the record as it is."""
    await watching.click("Topics")
    await watching.click("inbound")
    await expect(watching.page.locator("#k-partitions tbody tr")).to_have_count(installation.settings.partitions)
    hostile = watching.page.locator(".record", has_text="answered text").locator(".says")
    await expect(hostile.first).to_contain_text("<img src=x onerror=alert(1)> \\u202egnp.exe")
    await expect(watching.page.locator("[data-live-mark]")).to_have_text("live")
    assert await installation.post(body(PHONES[0], "a record")) == 200
    come = watching.page.locator(".record", has_text='answered text "a record"')
    await come.locator("summary").click()
    await expect(come.locator("pre")).to_contain_text('"decision": "answered"')
    await watching.shot("topic-live")
    await come.get_by_role("link", name="The record as it is").click()
    await expect(watching.page.locator(".says")).to_contain_text('answered text "a record"')


async def test_an_open_page_goes_on_by_itself(settings: Settings) -> None:
    """What comes is on the list and in the thread soon, harmless; lists go by keyboard; without scripts all can be read."""
    expect.set_options(timeout=30_000)
    phone = PHONES[2]
    async with Installation(settings) as installation, chromium() as browser:
        async with operator(browser, installation) as watching:
            page = watching.page
            await expect(page.locator("#o-verdicts li")).to_have_count(5)
            await expect(page.locator("#o-flow .edge code")).to_have_text(EDGES)
            await watching.shot("overview")
            await watching.click("Topics")
            await expect(page.locator("#k-raw .group-line")).to_contain_text("streams")
            await watching.shot("topics")
            await watching.click("Conversations")
            await expect(page.locator("[data-empty]")).to_contain_text("ottla trigger text")
            await expect(page.locator("[data-live-mark]")).to_have_text("live")
            assert await installation.post(body(phone, "hello")) == 200
            await expect(page.locator(".rows > li")).to_have_count(1)
            await expect(page.locator("[data-empty]")).to_be_hidden()
            await page.keyboard.press("j")
            await page.keyboard.press("Enter")
            await expect(page.locator(".bubble.out .ticks.read")).to_have_count(1)
            await expect(page.locator("[data-live-mark]")).to_have_text("live")
            began = time.monotonic()
            assert await installation.post(body(phone, HOSTILE)) == 200
            await expect(page.locator(".bubble.in")).to_have_count(2)
            took_s = time.monotonic() - began
            print(f"a message was on the page {took_s:.2f} s after its webhook was posted")  # noqa: T201  # a figure to look at
            await expect(page.locator(".bubble.in").last).to_contain_text("<img src=x onerror=alert(1)> \\u202egnp.exe <script>")
            await expect(page.locator(".bubble.out .ticks.read")).to_have_count(2)
            await watching.shot("thread-live")
            assert took_s < 5
            await see_a_topic(watching, installation)
            assert watching.complaints == []
        async with operator(browser, installation, scripts=False, phone=True) as reading:
            await reading.shot("overview-phone-no-scripts")
            await reading.click("Conversations")
            await reading.click(f"+{phone}")
            await expect(reading.page.locator(".bubble")).to_have_count(4)
            await reading.shot("thread-phone-no-scripts")
            await reading.click("Timeline")
            await expect(reading.page.locator(".turn")).to_have_count(2)
            await reading.shot("timeline-phone-no-scripts")
