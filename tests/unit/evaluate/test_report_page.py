"""report.html in a real browser: its filters show what the ledger says, and it fits a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stages.evaluate.attempt import Result
from tests.unit.evaluate.test_report import before, material, page, router  # noqa: F401  (fixtures)
from tests.unit.publish.serving.test_page import Tab, chromium, tab  # noqa: F401  (fixtures)

SHOWN = "[...document.querySelectorAll('.episode')].filter(item => item.checkVisibility())"


@pytest.fixture
async def report(tab: Tab, page: str, tmp_path: Path) -> Tab:  # noqa: F811
    """The page, from a file, without a network."""
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    for domain in ("Page", "Runtime", "Log"):
        await tab.call(f"{domain}.enable")
    await tab.call("Page.navigate", url=path.as_uri())
    await tab.until("document.readyState === 'complete' && document.getElementById('shown').textContent")
    return tab


async def press(report: Tab, kind: str, value: str) -> list[str]:
    """Click a filter; the ids of the episodes that are to be seen then, as the counter has it too."""
    await report.js(f"document.querySelector('button[data-filter={kind}][value={value}]').click()")
    found: list[str] = await report.js(f"{SHOWN}.map(item => item.querySelector('.id').textContent)")
    assert (await report.text("shown")).startswith(f"{len(found)} of ")
    pressed = f"[...document.querySelectorAll('button[data-filter={kind}][aria-pressed=true]')].map(b => b.value)"
    assert await report.js(pressed) == [value]
    return found


async def test_a_filter_shows_the_episodes_of_which_the_ledger_says_so_and_no_other(
    report: Tab, router: dict[str, Result], before: dict[str, Result]  # noqa: F811
) -> None:  # fmt: skip
    right, was_right = ({name: item.em == 1 for name, item in each.items()} for each in (router, before))
    dataset = {name: item.question.dataset for name, item in router.items()}
    every = await press(report, "verdict", "all")
    assert len(every) == len(set(every)) > 0
    assert await press(report, "verdict", "right") == [item for item in every if right[item]]
    wrong = await press(report, "verdict", "wrong")
    assert wrong == [item for item in every if not right[item]]
    flipped = await press(report, "kind", "flipped")
    assert flipped == [item for item in wrong if was_right[item]], "both filters hold"
    await press(report, "verdict", "all")
    assert await press(report, "set", "popqa") == [
        item for item in every if right[item] != was_right[item] and dataset[item] == "popqa"
    ]
    assert sorted(await press(report, "kind", "all")) == sorted(item for item in every if dataset[item] == "popqa")
    assert report.errors == []


async def test_the_expensive_are_the_dearest_tenth(report: Tab, router: dict[str, Result]) -> None:  # noqa: F811
    cost = {name: item.cost for name, item in router.items()}
    costs = sorted(cost.values())
    for item in await press(report, "kind", "expensive"):
        assert sum(other > cost[item] for other in costs) < len(costs) / 10
    assert report.errors == []


@pytest.mark.parametrize("width", [360, 1280])
async def test_nothing_sticks_out_of_a_narrow_or_a_wide_screen(report: Tab, width: int) -> None:
    size: dict[str, Any] = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    await report.call("Emulation.setDeviceMetricsOverride", **size)
    await report.js("document.querySelectorAll('details').forEach(item => { item.open = true })")
    assert await report.js("document.documentElement.scrollWidth") <= width
