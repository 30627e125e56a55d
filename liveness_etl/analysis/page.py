"""One self-contained HTML page of a report: nothing is loaded, and the page's own policy forbids it.

What comes from outside is escaped here, and in the script goes through textContent. Charts are
drawn by Vega-Lite from the wheel vl-convert-python (extra `report`), whose interpreter needs no eval.
"""

import base64
import hashlib
import json
from html import escape
from importlib import resources
from string import Template

from liveness_etl.analysis.figure import Figure, Report, Section
from liveness_etl.errors import UsageError

_WORDS = {"complete": "Complete.", "incomplete": "Not complete.", "empty": "Nothing to show."}

_EXPLORER = """
<div class="explorer" id="explorer">
<div class="controls">
<label for="threshold-slider">Threshold</label>
<input type="range" id="threshold-slider" min="0" step="1" aria-describedby="threshold-note">
<label for="threshold-number">exactly</label>
<input type="number" id="threshold-number" min="0" max="100" step="any" aria-describedby="threshold-note">
</div>
<p id="threshold-note" role="status"></p>
<dl class="rates">
<div><dt>Pass rate among scored</dt><dd id="of-scored"> <small></small></dd></div>
<div><dt>Pass rate among all requested</dt><dd id="of-requested"> <small></small></dd></div>
<div><dt>Worst to best case for the unscored</dt><dd id="cases"> <small></small></dd></div>
$people
</dl>
</div>
"""

_PEOPLE = '<div><dt>People who pass</dt><dd id="people-rates"> <small></small></dd></div>'


def page(report: Report) -> str:
    """The report as HTML. Raises UsageError where the extra `report` is not installed."""
    library, script, style = charting_library(), _file("page.js"), _file("page.css")
    policy = (
        f"default-src 'none'; script-src {_hash(library)} {_hash(script)}; "
        f"style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    )
    return Template(_file("page.html")).substitute(
        policy=escape(policy),
        title=escape(report.title),
        style=style,
        state=report.headline.state,
        word=_WORDS[report.headline.state],
        sentence=escape(report.headline.sentence),
        notes="".join(f"<li>{escape(note)}</li>" for note in report.notes),
        contents="".join(f'<li><a href="#{one.id}">{escape(one.title)}</a></li>' for one in report.sections),
        sections="".join(_section(one, report) for one in report.sections),
        generated_at=escape(report.generated_at),
        report=script_json(report.as_json()),
        library=library,
        script=script,
    )


def charting_library() -> str:
    """Vega-Lite and what it needs, as one script. Raises UsageError where the extra `report` is not installed."""
    try:
        import vl_convert
    except ImportError:
        raise UsageError("report --html needs its charting library: pip install 'liveness-etl[report]'") from None
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub lacks the default
    # A script element ends at </script> wherever it stands.
    return bundle.replace("</script", "<\\/script")


def script_json(value: object) -> str:
    """JSON that may stand in a script element: no text in it can end the element or begin a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _section(section: Section, report: Report) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in section.notes)
    people = any(figure.id == "people" for figure in section.figures)
    explorer = Template(_EXPLORER).substitute(people=_PEOPLE if people else "")
    return (
        f'<section id="{section.id}" aria-labelledby="{section.id}-title">'
        f'<h2 id="{section.id}-title">{escape(section.title)}</h2><ul class="notes">{notes}</ul>'
        + (explorer if section.id == "thresholds" and report.explorer else "")
        + "".join(map(_figure, section.figures))
        + "</section>"
    )


def _figure(figure: Figure) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in figure.notes)
    chart = (
        f'<div class="chart" data-chart="{figure.id}" role="img" aria-label="{escape(figure.alt)}">'
        '<div class="drawing"></div></div>'
        if figure.chart
        else ""
    )
    return (
        f'<figure id="figure-{figure.id}"><figcaption><h3>{escape(figure.title)}</h3>'
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
        + f"</figcaption>{chart}<details{'' if figure.chart else ' open'}><summary>Data: {len(figure.table.rows):,} "
        f'rows</summary><div class="scroll" tabindex="0" data-table="{figure.id}"></div></details></figure>'
    )


def _file(name: str) -> str:
    return resources.files("liveness_etl.analysis").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
