"""The Dagster UI and the report in a real browser: headless Chromium against real servers on 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from selenium.common.exceptions import WebDriverException

from moderation_pipelines.foundation.home import Home
from moderation_pipelines.orchestration.runner import instance_of
from moderation_pipelines_tests.conftest import ROOT
from moderation_pipelines_tests.test_orchestration import GROUPS

pytestmark = pytest.mark.browser
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


def wait_for(what: Callable[[], Any], seconds: float, name: str) -> Any:
    """The first true value ``what`` gives; fails with the name after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if value := what():
                return value
        except (OSError, WebDriverException):
            pass
        time.sleep(0.3)
    pytest.fail(f"waited {seconds:g} s for {name}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium or chromedriver; on Debian: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = chromium
    for flag in [*FLAGS.split(), "--window-size=1400,1000"]:
        options.add_argument(flag)
    window = webdriver.Chrome(options=options, service=Service(driver))
    yield window
    window.quit()


@pytest.fixture(scope="module")
def ui(line: tuple[Home, Any]) -> Iterator[str]:
    """Webserver and daemon on the finished home, ended by their process ids."""
    home = line[0]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    programs = Path(sys.executable).parent
    env = {**os.environ, "DAGSTER_HOME": str(home.dagster_home), "MODERATION_HOME": str(home.root)}
    workspace = ["-w", str(ROOT / "workspace.yaml")]
    commands = [
        [programs / "dagster-webserver", *workspace, "-h", "127.0.0.1", "-p", str(port)],
        [programs / "dagster-daemon", "run", *workspace],
    ]
    running = [
        subprocess.Popen(c, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for c in commands
    ]
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: urllib.request.urlopen(f"{url}/server_info", timeout=2).status == 200, 90, "the webserver")
        yield url
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def text_of(browser: Any) -> str:
    return str(browser.find_element("tag name", "body").text)


def click(browser: Any, text: str) -> bool:
    """Click the first visible button with this text."""
    for button in browser.find_elements("xpath", f"//button[normalize-space(.)='{text}']"):
        if button.is_displayed():
            button.click()
            return True
    return False


def test_the_ui_loads_and_the_graph_shows_every_group(browser: Any, ui: str) -> None:
    browser.get(f"{ui}/asset-groups")
    wait_for(lambda: all(group in text_of(browser) for group in GROUPS), 60, "all groups in the graph")


def test_schedule_and_sensor_are_shown(browser: Any, ui: str) -> None:
    browser.get(f"{ui}/automation")
    wait_for(lambda: {"daily_metrics", "label_drop_sensor"} <= set(text_of(browser).split("\n")), 60, "automations")


def test_a_materialisation_started_in_the_page_succeeds(browser: Any, ui: str, line: tuple[Home, Any]) -> None:
    with instance_of(line[0]) as instance:
        before = len(instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS])))
        browser.get(f"{ui}/assets/policies")
        wait_for(lambda: click(browser, "Materialize"), 60, "the Materialize button")

        def done() -> bool:
            runs = instance.get_runs(limit=5)
            ours = [r for r in runs if r.asset_selection == frozenset({dg.AssetKey("policies")})]
            return bool(ours) and ours[0].status == dg.DagsterRunStatus.SUCCESS

        wait_for(done, 120, "the run to succeed")
        assert len(instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))) > before


def test_the_report_is_shown_in_the_ui(browser: Any, ui: str) -> None:
    browser.get(f"{ui}/assets/report?view=events")
    wait_for(lambda: "Show Markdown" in text_of(browser), 60, "the report's metadata")
    link = browser.find_element("xpath", "//*[contains(text(), 'Show Markdown')]")
    link.click()
    wait_for(lambda: "Agreement between raters" in text_of(browser), 30, "the report in a dialog")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_opens_at_desktop_and_phone_width(browser: Any, line: tuple[Home, Any], width: int) -> None:
    page = next(line[0].reports.rglob("report.html"))
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get(page.as_uri())
    assert "What to do next" in text_of(browser)
    # Nothing but tables in their own scroll box is wider than the page.
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert loaded == []
    assert browser.execute_script("return document.querySelectorAll('svg').length") >= 4
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
