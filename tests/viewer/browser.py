"""A page in a headless Chromium: what a reader does, and what is then to be seen."""

import contextlib
import json
import os
import shutil

import pytest

SWITCHES = (
    "headless=new",
    "no-sandbox",
    "disable-gpu",
    "disable-dev-shm-usage",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "disable-extensions",
    "no-first-run",
    "window-size=1280,900",
)


def start_browser(folder):
    """A Chromium with a profile of its own; skips the test where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in (*SWITCHES, f"user-data-dir={folder}"):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    os.environ["SE_AVOID_STATS"] = "true"
    service = webdriver.ChromeService(executable_path=driver)
    return webdriver.Chrome(options=options, service=service)


class Reader:
    """Opens a page and uses it by pointer and keyboard."""

    def __init__(self, driver, folder):
        self.driver = driver
        self.folder = folder
        self.count = 0

    def open(self, page, address=""):
        self.count += 1
        path = self.folder / f"page{self.count}.html"
        page.save(path)
        self.go(f"{path.as_uri()}{address}")

    def go(self, url):
        self.driver.get("about:blank")
        self.driver.get(url)
        self.wait_until_ready()

    def wait_until_ready(self):
        from selenium.webdriver.support.ui import WebDriverWait

        ready = "return document.documentElement.dataset.ready === 'true'"
        WebDriverWait(self.driver, 60, poll_frequency=0.05).until(lambda _: self.js(ready))

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0]).textContent", selector)

    def word(self, place, panel=0):
        return self.all(".panel")[panel].find_elements("css selector", ".words .chip")[place]

    def choose(self, name, value):
        """Choose an option of the first panel."""
        self.js(
            "const select = document.querySelector(`select.${arguments[0]}`);"
            "select.value = arguments[1]; select.dispatchEvent(new Event('change'))",
            name,
            value,
        )

    def table(self, name, panel=0):
        """Texts of the shown rows of a table."""
        return self.js(
            "return [...document.querySelectorAll('.panel')[arguments[1]]"
            ".querySelectorAll(`.${arguments[0]} tbody tr`)].filter((row) => !row.hidden)"
            ".map((row) => [...row.cells].filter((c) => !c.hidden).map((c) => c.textContent))",
            name,
            panel,
        )

    def weights(self, panel=0):
        """{(row, column): weight} from the table beside the map."""
        found = {}
        for _, place, weight, *_ in self.table("top", panel):
            row, column = (int(part.split()[1]) for part in place.split(", "))
            found[row - 1, column - 1] = float(weight)
        return found

    def map_pixels(self, panel=0):
        """The map's pixels (rows, columns) of red, green, blue, alpha, flat."""
        return self.js(
            "const map = document.querySelectorAll('.panel')[arguments[0]].querySelector('.map');"
            "return [...map.getContext('2d').getImageData(0, 0, map.width, map.height).data]",
            panel,
        )

    def actions(self):
        from selenium.webdriver import ActionChains

        return ActionChains(self.driver, duration=0)

    def press(self, *keys):
        for key in keys:
            self.actions().send_keys(key).perform()

    def click_patch(self, row, column, grid):
        """Click into the middle of a patch."""
        self.at_patch(row, column, grid).click().perform()

    def at_patch(self, row, column, grid):
        stage = self.one(".stage")
        size = self.js(
            "const b = arguments[0].getBoundingClientRect(); return [b.width, b.height]", stage
        )
        x = ((column + 0.5) / grid[1] - 0.5) * size[0]
        y = ((row + 0.5) / grid[0] - 0.5) * size[1]
        return self.actions().move_to_element_with_offset(stage, round(x), round(y))

    def requests(self):
        """Addresses that were asked for since the last call."""
        messages = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent]

    def complaints(self):
        """Errors and warnings of the console since the last call."""
        found = [entry["message"] for entry in self.driver.get_log("browser")]
        # Advice to those who read a map's pixels: that is these tests.
        return [message for message in found if "willReadFrequently" not in message]

    @contextlib.contextmanager
    def telephone(self):
        """390 x 844 pixels, with a finger."""
        size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
