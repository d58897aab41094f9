"""What the tests of the page share: a server of our own, Chromium, and a visit that watches."""

import shutil

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from visit import PATIENCE_MS, Visit, serving

from app.settings import Settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def origin():
    with serving(Settings()) as address:
        yield address


@pytest.fixture(scope="session")
def chromium():
    if CHROMIUM is None:
        pytest.fail("These tests need Chromium; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, origin):
    """Open the page; at the end nothing may have gone wrong, nor out to another host."""
    visits = []

    def open_page(*, wait=True, **how) -> Visit:
        context = chromium.new_context(
            **{"viewport": {"width": 1280, "height": 900}, "accept_downloads": True} | how
        )
        context.set_default_timeout(PATIENCE_MS)
        visit = Visit(context.new_page(), origin)
        visits.append(visit)
        visit.go(wait=wait)
        return visit

    yield open_page
    for visit in visits:
        visit.page.context.close()
        assert visit.errors == []
        assert visit.strangers == []


@pytest.fixture
def visit(open_page) -> Visit:
    return open_page()


@pytest.fixture
def page(visit) -> Page:
    return visit.page
