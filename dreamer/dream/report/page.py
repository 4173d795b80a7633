"""The report as one HTML page that needs nothing else: what it says in a minute, then every number."""

from __future__ import annotations

from html import escape
from typing import Any

from dreamer.dream.report.estimate import MODEL, NEGATIVE, POSITIVE, Estimate, Quantity
from dreamer.dream.report.history import HOW, LEADING, History
from dreamer.dream.report.registry import Metric
from dreamer.dream.report.svg import in_words, number, plot, style_of

Measured = list[tuple[Metric, list[Quantity]]]

WORDS = {
    "below level": "Below the level asked for",
    "no better than a control": "No better than a control",
    "not measurable": "Not measurable here",
    "pass": "Passed",
}

STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1d2226; --soft: #626b73; --line: #dfe3e6; --card: #f4f6f7;
  --model: #0b62c4; --truth: #1b7f4b; --negative: #9a6a1f; --good: #1b7f4b; --bad: #b3261e; --none: #626b73; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181b; --ink: #e8ecef; --soft: #9aa5ad; --line: #2d353b;
  --card: #1c2226; --model: #6db1ff; --truth: #5fd195; --negative: #d9a55a; --good: #5fd195; --bad: #ff8a80;
  --none: #9aa5ad; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 28px 24px 60px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 20px; margin: 44px 0 4px; text-transform: capitalize; }
h3 { font-size: 15px; margin: 0 0 2px; } p { margin: 4px 0; } .soft, .note { color: var(--soft); }
.note { font-size: 13px; } .lead { font-size: 17px; margin: 14px 0 18px; max-width: 80ch; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 13px; }
th, td { padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { min-width: 72px; } td:nth-child(2), td:nth-child(3) { min-width: 200px; }
td.property { font-weight: 600; text-transform: capitalize; }
.chip { border: 1px solid currentColor; border-radius: 9px; padding: 0 8px; font-size: 12px; white-space: nowrap; }
.pass { color: var(--good); } .below, .no { color: var(--bad); } .measured { color: var(--model); }
.not { color: var(--none); }
.grid-of-plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 18px; }
figure { margin: 0; background: var(--card); border-radius: 8px; padding: 14px 16px; }
svg { width: 100%; height: auto; display: block; margin: 6px 0; } svg text { font-size: 12px; fill: var(--soft); }
svg text.name { fill: var(--ink); } .grid { stroke: var(--line); } polyline { fill: none; stroke-width: 2; }
.band { opacity: .14; stroke: none; } .whisker { stroke-width: 3; opacity: .55; }
.model { stroke: var(--model); fill: var(--model); } .truth { stroke: var(--truth); fill: var(--truth); }
.negative { stroke: var(--negative); fill: var(--negative); } .frozen polyline { stroke-dasharray: 7 4; }
.shuffled polyline { stroke-dasharray: 2 4; } .legend { display: flex; gap: 18px; flex-wrap: wrap; font-size: 13px; }
.legend svg { width: 34px; display: inline; vertical-align: middle; margin: 0 4px 0 0; }
.scroll { overflow-x: auto; } details { font-size: 13px; } summary { cursor: pointer; color: var(--soft); }
"""


def render(document: dict[str, Any], measured: Measured, history: History) -> str:
    """The page of a report."""
    title = f"Is it a world model? {document['env']}"
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
    )
    about = (
        f"{document['run']} at {document['agent_steps']:,} agent steps · {document['num_starts']} start states · "
        f"seed {document['seed']} · {document['device']} · {document['protocol']}"
    )
    body = [
        f"<h1>{escape(title)}</h1><p class='soft'>{escape(about)}</p>",
        f"<p class='lead'>{escape(in_a_sentence(measured))}</p>",
        _summary(measured),
        _legend(measured),
        *(_section(metric, quantities) for metric, quantities in measured),
        _through_training(history),
        f"<h2>How to read this</h2>{_explanation()}",
    ]
    return head + "".join(body) + "</body></html>\n"


def in_a_sentence(measured: Measured) -> str:
    """The weakest parts by name; there is no score that would hide them."""
    verdicts: dict[str, list[str]] = {name: [] for name in WORDS}
    for metric, quantities in measured:
        for quantity in quantities:
            verdicts.setdefault(quantity.verdict(), []).append(f"{quantity.title} ({metric.name})")
    parts = [f"{words}: {'; '.join(verdicts[name])}." for name, words in WORDS.items() if verdicts[name]]
    return " ".join(parts) or "Nothing here has a level that it would have to reach."


def _summary(measured: Measured) -> str:
    rows = []
    for metric, quantities in measured:
        if not quantities:
            rows.append(f"<tr><td class='property'>{metric.name}</td><td colspan='5'>{escape(metric.needs)}</td></tr>")
        for index, quantity in enumerate(quantities):
            where = f" at {quantity.x[quantity.headline]:g} {quantity.axis}" if quantity.axis else ""
            name = f"<td class='property'>{metric.name if index == 0 else ''}</td>"
            rows.append(
                f"<tr>{name}<td>{escape(quantity.title + where)}</td>"
                f"<td class='number'>{escape(in_words(quantity.at(MODEL)))} {escape(quantity.unit)}</td>"
                f"<td class='number'>{_mean(_first(quantity, POSITIVE))}</td>"
                f"<td class='number'>{_mean(_nearest(quantity))}</td><td>{_chip(quantity.verdict())}</td></tr>"
            )
    head = (
        "<tr><th></th><th>measured</th><th>model [95 % interval]</th><th>real</th><th>best control</th><th></th></tr>"
    )
    return f"<div class='scroll'><table>{head}{''.join(rows)}</table></div>"


def _section(metric: Metric, quantities: list[Quantity]) -> str:
    figures = "".join(_figure(quantity) for quantity in quantities) or f"<p>{escape(metric.needs)}</p>"
    return (
        f"<h2>{metric.name}</h2><p class='soft'>{escape(metric.question)}</p><div class='grid-of-plots'>{figures}</div>"
    )


def _through_training(history: History) -> str:
    """The curves of the scheduled reports, of which those that tell a policy that fools its model come first."""
    if not history.curves:
        return f"<h2>through training</h2><p class='soft'>{escape(HOW)}</p>"
    leading = "".join(_curve(one) for name, one in history.curves.items() if name in LEADING)
    others = "".join(_curve(one) for name, one in history.curves.items() if name not in LEADING)
    body = f"<div class='grid-of-plots'>{leading}</div>" if leading else ""
    if others:
        body += f"<details><summary>All other quantities</summary><div class='grid-of-plots'>{others}</div></details>"
    return f"<h2>through training</h2><p class='soft'>What the run measured of itself on its way.</p>{body}"


def _curve(quantity: Quantity) -> str:
    return (
        f"<figure><h3>{escape(quantity.title)}</h3>"
        f"<p class='note'>{escape(quantity.unit)}, {_direction(quantity)}</p>"
        f"{plot(quantity)}<p class='note'>{escape(quantity.note)}</p>{_numbers(quantity)}</figure>"
    )


def _figure(quantity: Quantity) -> str:
    return (
        f"<figure><h3>{escape(quantity.title)} {_chip(quantity.verdict())}</h3>"
        f"<p class='note'>{escape(quantity.unit)}, {_direction(quantity)}{_level(quantity)}</p>"
        f"{plot(quantity)}<p class='note'>{escape(quantity.note)}</p>"
        f"{_numbers(quantity)}</figure>"
    )


def _numbers(quantity: Quantity) -> str:
    if not quantity.axis:
        counts = {one.num for estimates in quantity.values.values() for one in estimates if one is not None}
        return f"<p class='note'>N = {', '.join(map(str, sorted(counts)))}</p>" if counts else ""
    head = "".join(f"<th>{x:g}</th>" for x in quantity.x)
    rows = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{_cell(one)}</td>' for one in estimates)}</tr>"
        for name, estimates in quantity.values.items()
    )
    table = f"<table><tr><th>{escape(quantity.axis)}</th>{head}</tr>{rows}</table>"
    return f"<details><summary>All numbers</summary><div class='scroll'>{table}</div></details>"


def _cell(one: Estimate | None) -> str:
    return "-" if one is None else f"{in_words(one)} N={one.num}"


def _legend(measured: Measured) -> str:
    names = list(dict.fromkeys(name for _, many in measured for one in many for name in one.values))
    items = "".join(
        f"<span><svg viewBox='0 0 34 10'><g class='{style_of(name)}'><polyline points='0,5 34,5'/></g></svg>"
        f"{escape(name)}</span>"
        for name in names
    )
    return f"<p class='legend'>{items}</p>"


def _explanation() -> str:
    return """<p>The <b>real environment</b>, behind the same interface as the model, shows what a perfect model would
reach. <b>Action-blind</b> is the model with all actions replaced by zeros, <b>frozen frame</b> repeats what was seen
last, <b>shuffled weights</b> is the model with the numbers of each array in one random order. Where the real
environment does not lie clear of all these, a good value would mean nothing: the line says <i>not measurable</i>.</p>
<p>Intervals are bootstrap intervals over start states (95 %). One of width zero says that all starts agreed; with N of
them, what happens in fewer than 3 of N cases may have been missed. There is no total score: a world model is as good as
its weakest property.</p>"""


def _chip(verdict: str) -> str:
    return f"<span class='chip {verdict.split()[0]}'>{verdict}</span>"


def _direction(quantity: Quantity) -> str:
    if quantity.ideal is not None:
        return f"{number(quantity.ideal)} is best"
    return f"{'more' if quantity.higher_is_better else 'less'} is better"


def _level(quantity: Quantity) -> str:
    if quantity.level is None:
        return ""
    return f"; passes {'from' if quantity.higher_is_better else 'up to'} {number(quantity.level)}"


def _mean(one: Estimate | None) -> str:
    return "" if one is None else number(one.mean)


def _first(quantity: Quantity, names: tuple[str, ...]) -> Estimate | None:
    return next((one for name in names if (one := quantity.at(name)) is not None), None)


def _nearest(quantity: Quantity) -> Estimate | None:
    """The negative control that comes nearest to the truth."""
    found = [one for name in NEGATIVE if (one := quantity.at(name)) is not None]
    if not found:
        return None
    ideal = quantity.ideal
    if ideal is not None:
        return min(found, key=lambda one: abs(one.mean - ideal))
    return (max if quantity.higher_is_better else min)(found, key=_by_mean)


def _by_mean(one: Estimate) -> float:
    return one.mean
