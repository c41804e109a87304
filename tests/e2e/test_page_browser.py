"""The page in a browser: what its script draws, and that it is reached by mouse, keyboard and names alike."""

import fcntl
import json
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchkit.evaluate.predictions import Predictions
from matchkit.extract.datasets import open_dataset
from matchkit.pipelines.evaluate import evaluate
from matchkit.pipelines.extract import extract
from matchkit.pipelines.fit_head import fit_head
from matchkit.pipelines.match import match
from matchkit.pipelines.page.write import write_page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FOUND = next((path for name in NAMES if (path := shutil.which(name))), "")
WAIT_S = 60.0
pytestmark = pytest.mark.skipif(not FOUND, reason=f"none of {', '.join(NAMES)} is installed")


class Browser:
    """A headless Chromium with one page, spoken to over two pipes."""

    def __init__(self, profile: Path) -> None:
        reads, self._commands = os.pipe()
        self._answers, writes = os.pipe()
        # the browser has them at 3 and 4: copied to where no other pipe of the start can be
        high_reads, high_writes = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (reads, writes))
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        options = ["--headless=new", "--remote-debugging-pipe", "--disable-gpu", f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            [FOUND, *options, *sandbox, "--no-first-run", "--disable-dev-shm-usage", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(3, 4),
            preexec_fn=lambda: (os.dup2(high_reads, 3), os.dup2(high_writes, 4)),
        )
        for end in (reads, writes, high_reads, high_writes):
            os.close(end)
        self._number, self._held, self._session = 0, b"", {}
        self.complaints: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        """Ends the browser."""
        self._process.terminate()
        self._process.wait(WAIT_S)
        os.close(self._commands)
        os.close(self._answers)

    def send(self, method: str, **params: Any) -> Any:
        """Does something, and hands back what came of it."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._answer()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _answer(self) -> Any:
        while b"\0" not in self._held:
            assert select.select([self._answers], [], [], WAIT_S)[0], "the browser does not answer"
            chunk = os.read(self._answers, 1 << 16)
            assert chunk, "the browser has ended"
            self._held += chunk
        first, _, self._held = self._held.partition(b"\0")
        answer = json.loads(first)
        if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening"):
            self.complaints.append(json.dumps(answer["params"]))
        return answer

    def ask(self, expression: str) -> Any:
        """The value of an expression on the page."""
        told = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def until(self, expression: str) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + WAIT_S
        while not self.ask(expression):
            assert time.monotonic() < end, expression
            time.sleep(0.02)

    def press(self, key: str, text: str = "") -> None:
        """Presses a key."""
        code = {"Enter": 13, "Tab": 9}.get(key, 0)
        told = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **told)
        self.send("Input.dispatchKeyEvent", type="keyUp", **told)

    def move(self, x: float, y: float) -> None:
        """Moves the mouse over the page."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def text(self, selector: str) -> str:
        """What an element says."""
        return str(self.ask(f"document.querySelector({json.dumps(selector)}).textContent"))

    def settled(self) -> str:
        """What the explorer says after it has drawn."""
        self.ask("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return self.text("#told")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def page(spair_tree: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page of two methods, open in the browser; the tree of its images."""
    monkeypatch.chdir(spair_tree.parent)
    told: dict[str, Any] = {"root": spair_tree, "device": "cpu"}
    extract("spair", "pixels", settings=("input_size=32",), **told)
    fit_head("spair", "raw-layer", settings=("features=pixels",), **told)
    match("spair", "raw-layer", settings=("split=trn",), **told)
    match("spair", "same-relative-position", settings=("split=trn",), **told)
    for name in ("raw-layer", "same-relative-position"):
        evaluate("spair", name, root=spair_tree, settings=("resamples=100",))
    written = write_page(Path("page.html"), "spair", head="raw-layer", **told)
    browser.complaints.clear()
    browser.send("Page.navigate", url=written.path.resolve().as_uri())
    browser.until("document.readyState === 'complete' && !!document.querySelector('#keypoints button')")
    return spair_tree


def points(told: str) -> tuple[np.ndarray, np.ndarray]:
    """The point of the source and the most similar one of the target."""
    found = re.match(r"Source (-?\d+), (-?\d+) is most like target (-?\d+), (-?\d+), cosine", told)
    assert found, told
    numbers = np.asarray(found.groups(), float)
    return numbers[:2], numbers[2:]


def test_the_page_finds_what_the_head_found(page: Path, browser: Browser) -> None:
    predictions = Predictions.load(Path("predictions/spair/raw-layer.npz")).points
    data = open_dataset("spair", page)
    pairs = {data.images[pair.source].size: pair for pair in data.pairs("trn")}
    stored = json.loads(browser.text("#pairs"))
    seen = 0
    for number, told in enumerate(stored):
        pair = pairs[told["source"]["width"], told["source"]["height"]]
        browser.ask(f"document.querySelector('.open[data-pair=\"{number}\"]').click()")
        for row, expected in enumerate(predictions[pair.id]):
            browser.ask(f"document.querySelectorAll('#keypoints button')[{row}].click()")
            source, found = points(browser.settled())
            np.testing.assert_allclose(source, pair.source_points[row], atol=0.51)
            # of 32 pixels searched 8 times finer; texts are whole pixels, descriptors one byte
            np.testing.assert_allclose(found, expected, atol=1.5)
            seen += 1
    assert seen >= 4
    assert not browser.complaints


def test_the_map_is_painted_and_follows_the_mouse(page: Path, browser: Browser) -> None:
    browser.ask("document.getElementById('source').scrollIntoView({behavior: 'instant', block: 'center'})")
    box = "document.getElementById('source').getBoundingClientRect()"
    left, top, width, height = (browser.ask(f"{box}.{side}") for side in ("left", "top", "width", "height"))
    told = []
    for share in (0.25, 0.75):
        browser.move(left + share * width, top + share * height)
        told.append(points(browser.settled())[0])
        painted = browser.ask(
            "(() => { const c = document.querySelector('#target canvas'); const d = c.getContext('2d')"
            ".getImageData(0, 0, c.width, c.height).data; return [c.width, new Set(d).size]; })()"
        )
        assert painted[0] >= 32
        assert painted[1] > 10
    size = json.loads(browser.text("#pairs"))[0]["source"]
    np.testing.assert_allclose(told[0], [0.25 * size["width"] - 0.5, 0.25 * size["height"] - 0.5], atol=1)
    np.testing.assert_allclose(told[1], [0.75 * size["width"] - 0.5, 0.75 * size["height"] - 0.5], atol=1)


def test_the_explorer_is_reached_by_keyboard(page: Path, browser: Browser) -> None:
    browser.ask("document.getElementById('source').focus()")
    assert browser.ask("getComputedStyle(document.getElementById('source')).outlineStyle") == "solid"
    before, _ = points(browser.settled())
    for _ in range(8):
        browser.press("ArrowRight")
        browser.press("ArrowDown")
    after, _ = points(browser.settled())
    assert (after > before).all()


def test_tables_sort_by_keyboard(page: Path, browser: Browser) -> None:
    names = "[...document.querySelectorAll('#leaderboard tbody')[0].rows].map((row) => row.cells[0].dataset.value)"
    assert set(browser.ask(names)) == {"raw-layer", "same-relative-position"}
    browser.ask("document.querySelector('#leaderboard thead button').focus()")
    orders = []
    for _ in range(2):
        browser.press("Enter", "\r")
        orders.append(browser.ask(names))
    assert orders == [["raw-layer", "same-relative-position"], ["same-relative-position", "raw-layer"]]
    assert browser.ask("document.querySelector('#leaderboard thead th').getAttribute('aria-sort')") == "descending"


def test_a_row_singles_out_its_line(page: Path, browser: Browser) -> None:
    browser.ask("document.querySelector('#leaderboard tbody tr').focus()")
    assert browser.ask("document.querySelectorAll('.curve.lit').length") == 1


def test_it_is_dark_where_the_system_is_and_where_it_is_asked_to(page: Path, browser: Browser) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    for scheme in ("dark", "light"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.send("Emulation.setEmulatedMedia", features=features)
        shade = browser.ask(paper)
        assert (max(map(int, re.findall(r"\d+", shade))) < 60) == (scheme == "dark")
    for _ in range(2):
        browser.ask("document.getElementById('theme').click()")
    assert browser.text("#theme-name") == "dark"
    assert max(map(int, re.findall(r"\d+", browser.ask(paper)))) < 60
    browser.ask("document.getElementById('theme').click()")


def test_a_narrow_page_does_not_scroll_sideways(page: Path, browser: Browser) -> None:
    browser.send("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=True)
    assert browser.ask("document.documentElement.scrollWidth") <= 400
    browser.send("Emulation.clearDeviceMetricsOverride")


def test_names_from_the_data_do_not_run(tmp_path: Path, spair_tree: Path, browser: Browser, page: Path) -> None:
    name = "<img src=x onerror=alert(1)><svg onload=alert(2)>"
    (Path("reports") / name).mkdir()
    shutil.copy("reports/spair/raw-layer.json", Path("reports") / name / "<script>alert(3)<script>.json")
    written = write_page(Path("hostile.html"), name)
    browser.complaints.clear()
    browser.send("Page.navigate", url=written.path.resolve().as_uri())
    browser.until("document.readyState === 'complete' && document.querySelectorAll('thead button').length > 0")
    assert browser.text("h1") == name
    assert browser.ask("document.images.length") == 0
    assert not browser.complaints
