# %% [markdown]
# # From an output to a threshold
#
# A pass is a session that ended SUCCEEDED with a confidence of at least the threshold. Here is how to choose it: look
# at what is missing first, then at the scores, then at what a threshold costs, and at last at what labelled sessions
# say of its errors. The words for these are those of ISO/IEC 30107-3.
#
# `pip install 'liveness-etl[notebook]'`, then open this file as a notebook in VS Code, PyCharm or (through jupytext)
# Jupyter, or run it: `python choose_threshold.py`. Without an output of your own it makes demo data, in ten seconds.

# %%
import json
import os
import tempfile
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import pyarrow as pa

import liveness_etl
from liveness_etl.analysis.labelled import measure_detection
from liveness_etl.analysis.labels import read_labels
from liveness_etl.analysis.statistics import wilson

OUTPUT = os.environ.get("LIVENESS_ETL__OUTPUT__URI")  # a folder or s3://…
FIRST, LAST = None, None  # days such as "2026-03-02", both included; None: all there are
SUBJECT = "user_id"  # the manifest's attribute that tells people apart
LABELS = os.environ.get("LABELS")  # .csv or .parquet: session_id, label, and if known pai_species, subject_id, weight
TARGET = 0.05  # the attack error that you accept: 0.05 or 0.10
CHOICE = Path(os.environ.get("CHOICE", "chosen_threshold.json"))

alt.renderers.enable("svg")  # drawn here, in any editor; Altair's default loads a script from the network
DEMO = OUTPUT is None
if OUTPUT is None:
    from demo_history import make_history  # the file beside this one

    OUTPUT = tempfile.mkdtemp(prefix="liveness-history-")
    make_history(Path(OUTPUT))
print(f"output: {'made-up demo data' if DEMO else OUTPUT}")

# %% [markdown]
# ## The sessions
# One row per requested session, with pyarrow's types: what the service did not say is missing, never 0.

# %%
sessions = liveness_etl.read_results(OUTPUT, start=FIRST, end=LAST, attributes=[SUBJECT])
sessions["distance"] = 100 - sessions["confidence"]  # scores crowd at 100: their distance from it can be told apart
scored = sessions[sessions["confidence"].notna()]
challenge = ["challenge_type", "challenge_version"]
print(
    f"{len(sessions):,} sessions of {sessions['dt'].nunique()} days, {sessions[f'attr_{SUBJECT}'].nunique():,} people"
)

# %% [markdown]
# ## What is missing
# Before any score: how many were asked for, what became of them, and what a run will still ask again (not final). If
# much is missing here, what follows describes those who came through, and they may not be like the others.

# %%
completeness = pd.crosstab(sessions["source"], sessions["outcome"]).assign(
    requested=sessions.groupby("source").size(),
    not_final=(~sessions["is_final"].fillna(False)).groupby(sessions["source"]).sum(),
)
print(completeness.to_string())

# %% [markdown]
# ## The share without a score
# It stands beside every figure below, and is never counted as a score of 0.


# %%
def rate(count: int, of: int) -> str:
    """A share with its 95 % interval (Wilson). It takes sessions as independent: too narrow where people repeat."""
    interval = wilson(count, of)
    return f"{count / of:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


without = sessions["confidence"].isna()
print(f"without a score: {without.sum():,} of {len(sessions):,} sessions, {rate(int(without.sum()), len(sessions))}")
print(sessions[without].groupby("outcome").size().sort_values(ascending=False).to_string())

# %% [markdown]
# ## How the scores lie
# The share of scored sessions at most so far from 100; a log scale shows what a histogram of 0 to 100 hides.

# %%
SHARES = np.linspace(0.005, 0.995, 199)
print(scored["distance"].quantile([0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99]).map("{:.3f}".format).to_string())


def distance_axis() -> alt.X:
    return alt.X("distance:Q", scale=alt.Scale(type="log"), title="100 − confidence")


ecdf = pd.DataFrame({"share": SHARES, "distance": np.quantile(scored["distance"].to_numpy(float), SHARES)})
ecdf["distance"] = ecdf["distance"].clip(lower=0.001)
alt.Chart(ecdf).mark_line().encode(distance_axis(), alt.Y("share:Q", title="share of scored sessions"))

# %% [markdown]
# ## By challenge
# Differences are associations: nobody drew by lot who got which challenge, and versions come and go with apps.

# %%
by_challenge = scored.groupby(challenge, dropna=False)["distance"].quantile([0.5, 0.9, 0.95]).unstack().add_prefix("p")
by_challenge.insert(0, "scored", scored.groupby(challenge, dropna=False).size())
by_challenge.insert(0, "requested", sessions.groupby(challenge, dropna=False).size())
print(by_challenge.round(3).to_string())
curves = pd.concat(
    pd.DataFrame({"challenge": f"{kind} {version}", "share": SHARES, "distance": of["distance"].quantile(SHARES)})
    for (kind, version), of in scored.groupby(challenge)
)
curves["distance"] = curves["distance"].clip(lower=0.001).astype(float)
colours = alt.Scale(range=["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"])  # Okabe and Ito's
alt.Chart(curves).mark_line().encode(
    distance_axis(),
    alt.Y("share:Q", title="share of scored sessions"),
    alt.Color("challenge:N", scale=colours, legend=alt.Legend(labelLimit=0)),
)

# %% [markdown]
# ## Day by day
# Of a day's scores four fifths lie in the wide band and half of them in the narrow one. A day that stands out is a
# reason to look at releases, lighting and attacks; `liveness-etl report` tests for drift.

# %%
days = scored.groupby("dt")["distance"].quantile([0.1, 0.25, 0.5, 0.75, 0.9]).unstack()
days.columns = [f"p{100 * share:.0f}" for share in days.columns]
days["scored"] = scored.groupby("dt").size()
days["requested"] = sessions.groupby("dt").size()
print(days.round(3).to_string())
drawn = alt.Chart(days.clip(lower=0.001).astype(float).reset_index().assign(dt=lambda of: pd.to_datetime(of["dt"])))
day, log = alt.X("dt:T", title="day"), alt.Scale(type="log")
alt.layer(
    drawn.mark_area(opacity=0.25).encode(day, alt.Y("p10:Q", scale=log, title="100 − confidence"), alt.Y2("p90:Q")),
    drawn.mark_area(opacity=0.45).encode(day, alt.Y("p25:Q", scale=log), alt.Y2("p75:Q")),
    drawn.mark_line().encode(day, alt.Y("p50:Q", scale=log)),
)

# %% [markdown]
# ## What a threshold costs
# The pass rate among scored sessions leaves out everyone without a score; among requested ones they count as not
# passed. Neither is 1 − BPCER: nobody knows yet which of these sessions were attacks, and a threshold that fewer
# attacks pass has a lower pass rate, too.

# %%
rows = []
for threshold in (50, 80, 90, 95, 98, 99, 99.5, 99.9):
    passed = int(((sessions["status"] == "SUCCEEDED") & (sessions["confidence"] >= threshold)).fillna(False).sum())
    rows.append([threshold, passed, rate(passed, len(scored)), rate(passed, len(sessions))])
print(pd.DataFrame(rows, columns=["threshold", "passed", "of scored", "of requested"]).to_string(index=False))

# %% [markdown]
# ## Labels
# Which sessions were attacks, and with which instrument, only a test campaign or a review can tell. The demo's labels
# are **synthetic**: a coin weighted by the score itself is thrown for each session. So its error rates below show how
# to choose, and nothing about any service.

# %%
if LABELS is None and not DEMO:
    raise SystemExit("name a file of labels: pass rates alone cannot choose a threshold")
if LABELS is None:
    coin = np.random.default_rng(30107)
    score = sessions["confidence"].to_numpy(float, na_value=np.nan)
    attack = coin.random(len(sessions)) < np.select([np.isnan(score), score < 60], [0.05, 0.9], 0.003)
    made = sessions[["session_id"]].assign(
        label=np.where(attack, "attack", "bona_fide"),
        pai_species=np.where(attack, coin.choice(["print", "replay", "mask"], len(sessions), p=[0.4, 0.4, 0.2]), ""),
        subject_id=sessions[f"attr_{SUBJECT}"],
    )
    LABELS = str(Path(OUTPUT) / "synthetic-labels.csv")
    made.to_csv(LABELS, index=False)
    print("SYNTHETIC LABELS, made from the scores: the rates below say nothing about the service")
labels = read_labels(LABELS).to_pandas(types_mapper=pd.ArrowDtype)
labelled = labels.merge(sessions[["session_id", "status", "confidence", "created_at"]], on="session_id")
print(labelled.groupby(["label", "pai_species"], dropna=False).size().to_string())

# %% [markdown]
# ## The choice
# The lowest threshold whose APCER (attacks that pass, of the worst species) is at most the target, chosen on the
# earlier sessions. Its errors are printed for the later ones, which had no part in the choice, and of other people.
# BPCER is the share of bona fide sessions with an answer that do not pass; who got no answer is told as APNRR and
# BPNRR. Look at the intervals: a rate of 0 among few attacks allows much.

# %%
found = measure_detection(pa.Table.from_pandas(labelled), threshold=90)
(point,) = (point for point in found.operating_points if point.target == TARGET)
if point.rates is None:
    raise SystemExit(
        f"no threshold keeps the attack error at {TARGET:.0%} or below: too many labelled attacks score high"
    )
measured = {f"APCER {one.species}": one.apcer for one in point.rates.species}
measured |= {"attacks that passed, pooled": point.rates.pooled_attack_acceptance}
measured |= {"BPCER": point.rates.bpcer, "APNRR": point.rates.apnrr, "BPNRR": point.rates.bpnrr}
errors = pd.DataFrame(
    [[each.value, each.interval.low, each.interval.high, each.count, each.n] for each in measured.values()],
    columns=["rate", "95 % from", "to", "count", "of n"],
    index=list(measured),
)
print(f"threshold {point.threshold:.3f}, for {found.attack_error} of at most {TARGET:.0%}")
print(f"chosen and measured on: {found.split or 'the same sessions'}")
print(errors.round(4).to_string())
print(*found.notes, sep="\n")
choice = {
    "threshold": point.threshold,
    "target": {found.attack_error: TARGET},
    "labels": "synthetic, of no meaning" if DEMO else LABELS,
    "days": [str(sessions["dt"].min()), str(sessions["dt"].max())],
    "measured": errors.to_dict("index"),
    "notes": found.notes,
}
CHOICE.write_text(json.dumps(choice, indent=2))
print(f"written down in {CHOICE}: keep it with the labels, and measure again when the service or the app changes")
