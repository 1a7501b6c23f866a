import shutil

import pytest

from snnconvert.in_time import AnytimeCurve
from snnconvert.plots.page_curves import time_curve
from snnconvert.report.html.page import report_page

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium isn't installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver aren't installed (apt-get install chromium-driver)")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    running = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    running.set_page_load_timeout(20)
    yield running
    running.quit()


@pytest.fixture(scope="module")
def address(labelled_report, tmp_path_factory):
    """The address of a report's page."""
    curve = time_curve(AnytimeCurve((3, 4, 5), (0.5, 0.6, 0.9), (0.5, 0.7, 1.0), 10), 0.912)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report_page(labelled_report, [curve]), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(browser, address):
    """The page in a wide window, light."""
    resize(browser, 1200)
    prefer(browser, "light")
    browser.get(address)
    return browser


def resize(browser, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def prefer(browser, scheme):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def column(page, index):
    return page.execute_script(
        "return Array.from(document.querySelector('#layer-table').tBodies[0].rows, "
        "row => row.cells[arguments[0]].textContent)",
        index,
    )


def sorting(page):
    return page.execute_script(
        "return Array.from(document.querySelectorAll('#layer-table th'), head => head.getAttribute('aria-sort'))"
    )


def heading(page, index):
    return page.find_elements("css selector", "#layer-table th button")[index]


def test_it_opens_without_errors_and_asks_for_nothing(page):
    assert page.title == "small: spiking network"
    assert [entry for entry in page.get_log("browser") if entry["level"] != "DEBUG"] == []
    asked = [
        entry["message"] for entry in page.get_log("performance") if "Network.requestWillBeSent" in entry["message"]
    ]
    assert not [message for message in asked if '"url":"http' in message]


def test_clicks_on_headings_sort_both_ways(page, labelled_report):
    names = [layer.name for layer in labelled_report.layers]
    macs = {layer.name: layer.macs for layer in labelled_report.layers}
    rising = sorted(names, key=macs.__getitem__)
    assert column(page, 1) == names != rising
    heading(page, 5).click()
    assert [macs[name] for name in column(page, 1)] == sorted(macs.values())
    assert sorting(page)[5] == "ascending"
    assert set(sorting(page)) == {"ascending", "none"}
    heading(page, 5).click()
    assert [macs[name] for name in column(page, 1)] == sorted(macs.values(), reverse=True)
    assert sorting(page)[5] == "descending"
    heading(page, 1).click()
    assert column(page, 1) == sorted(names)
    heading(page, 0).click()
    assert column(page, 1) == names


def test_headings_sort_by_keyboard(page, labelled_report):
    from selenium.webdriver.common.keys import Keys

    macs = {layer.name: layer.macs for layer in labelled_report.layers}
    for key, rows in ((Keys.ENTER, sorted(macs.values())), (Keys.SPACE, sorted(macs.values(), reverse=True))):
        page.execute_script("arguments[0].focus()", heading(page, 5))
        page.switch_to.active_element.send_keys(key)
        assert [macs[name] for name in column(page, 1)] == rows


def test_missing_values_come_last_either_way(page):
    page.execute_script(
        "const cell = document.querySelector('#layer-table tbody tr').cells[12]; delete cell.dataset.order; "
        "cell.textContent = '–'"
    )
    for _ in range(2):
        heading(page, 12).click()
        assert column(page, 12)[-1] == "–"


@pytest.mark.parametrize("width", [320, 400, 1200])
def test_nothing_overflows(page, width):
    resize(page, width)
    page.execute_script("document.querySelectorAll('details').forEach(item => item.open = true)")
    wide, seen = page.execute_script("return [document.scrollingElement.scrollWidth, innerWidth]")
    assert seen == width
    assert wide <= seen
    assert page.execute_script("return document.querySelector('#layer-table').parentElement.scrollWidth") > 320


def test_dark_mode_changes_page_and_pictures(page):
    colours = []
    for scheme in ("light", "dark"):
        prefer(page, scheme)
        colours.append(
            page.execute_script(
                "return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color, "
                "getComputedStyle(document.querySelector('.picture svg text')).fill]"
            )
        )
    light, dark = colours
    assert light[0] == "rgb(255, 255, 255)"
    assert all(one != two for one, two in zip(light, dark, strict=True))
    assert light[1:] == [light[1]] * 2
    assert sum(int(part) for part in dark[0][4:-1].split(",")) < 120


def test_pictures_have_their_place(page):
    sizes = page.execute_script(
        "return Array.from(document.querySelectorAll('svg'), item => [item.clientWidth, item.clientHeight])"
    )
    assert len(sizes) > 12
    assert all(width > 60 and height > 20 for width, height in sizes)
