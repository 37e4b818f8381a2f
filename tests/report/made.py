"""Made records: studies whose truth is known, and the paper's Table 1."""

import math
import random
from pathlib import Path

from laurel_cli.latency.document import OF_LEARNED
from laurel_cli.records.folder import gather
from laurel_cli.records.store import write
from laurel_cli.reports.document import report

ARCHITECTURE = "a" * 64
INPUT = "x: float32 [{batch}, 3, 32, 32]"
BASE = 1_000_000
HOSTILE = "[red]a|b`c`<script>alert(1)</script>\x1b[31m\n=cmd()\u202e\\input{x}%$&#_^~"
# name, kind, parameters added, true loss
ARMS = [
    ("baseline", "baseline", 0, 1.00),
    ("copy", "copy", 0, 1.00),
    ("naive+1", "naive", 44_000, 0.90),
    ("rw", "laurel", 32, 0.96),
    ("rw+lr@16", "laurel", 17_000, 0.90),
    ("rw+lr+pa@16", "laurel", 24_000, 0.86),
]
# The controls of a study: a wider baseline, which helps, and other rates, which do not.
POSITIVE = ("baseline:width=1.125", "against", 60_000, 0.93)
RATES = [("baseline:lr=0.5", "against", 0, 1.03), ("baseline:lr=2", "against", 0, 1.02)]
BUDGET = ("baseline:steps=0.7", "against", 0, 1.06)
# arXiv 2411.07501v4, Table 1: accuracy in percent, standard deviation over five trials, parameters added in percent
TABLE_1 = {
    "baseline": ("baseline", 74.95, 0.01, 0.0),
    "naive+1": ("naive", 75.20, 0.12, 4.37),
    "rw": ("laurel", 75.10, 0.10, 0.003),
    "rw+lr@16": ("laurel", 75.20, 0.07, 1.68),
    "rw+lr+pa@16": ("laurel", 75.25, 0.09, 2.40),
}


def spec_of(name):
    variant, _, rank = name.partition(":")[0].partition("@")
    parts = variant.split("+")
    fields = {part: part in parts for part in ("rw", "lr", "pa")} | {"rank": int(rank or 16), "lags": 3}
    return fields | {
        "history": "auto",
        "normalize": "2softmax",
        "vector_weights": False,
        "init": "xavier",
        "per": "connection",
    }


FAILURE = [
    "schema",
    "command",
    "study",
    "arm",
    "seed",
    "versions",
    "status",
    "reason",
    "metric",
    "final",
    "curve",
    "evaluations",
]


def failed(name="rw", kind="laurel", seed=0, **more):
    """As the command writes of a trial that ended in its process: of model, task and device it knows nothing."""
    whole = trial(name, kind, seed, **more) | {"status": "failed", "reason": "killed", "final": None}
    return {key: value for key, value in whole.items() if key in FAILURE} | {"curve": [], "evaluations": []}


def trial(name="rw", kind="laurel", seed=0, loss=1.0, added=0, study="s", **more):
    final = {"step": 600, "loss": loss, "accuracy": max(0.0, min(1.0, 1 - loss / 3))}
    steps = range(100, 601, 100)
    body = {
        "schema": "laurel.trial/1",
        "command": "laurel train-proxy cifar10 --study s",
        "study": {"name": study, "sha256": "5" * 64, "definition": {"seeds": 5}},
        "model": {
            "reference": "resnet20",
            "source": "file model.py",
            "architecture": ARCHITECTURE,
            "input": INPUT.format(batch=64),
        },
        "arm": {"name": name, "kind": kind, "blocks": int(kind == "naive")}
        | {"spec": spec_of(name) if kind == "laurel" else None},
        "seed": seed,
        "status": "complete",
        "reason": None,
        "task": {"name": "cifar10", "kind": "image", "sha256": "d" * 64, "classes": 10, "unit": "images"},
        "metric": "loss",
        "chance_loss": math.log(10),
        "final": final,
        "curve": [{"step": 20, "samples": 1280, "loss": 2.1, "learning_rate": 0.003}],
        "evaluations": [
            {"step": s, "samples": 64 * s, "loss": loss + 1.2 * (600 / s - 1) / 5, "accuracy": 0.7 * s / 600}
            for s in steps
        ],
        "parameters": {"total": BASE + added, "added": added},
        "coefficients": [{"connection": f"layer{i}", "a": 1 + 0.02 * i, "b": 1 - 0.03 * i, "c": []} for i in range(6)]
        if "rw" in name.split("@")[0].split("+")
        else [],
        "seconds": {"train": 31.0, "evaluation": 2.0},
        "seeds": {"model": seed, "data": seed, "evaluation": 0},
        "hashes": {"data": "d" * 64, "code": "c" * 64, "start": "e" * 64},
        "device": {"name": "cpu", "threads": 1},
        "versions": {"python": "3.11.7 (linux)", "torch": "2.15.0"},
    }
    return body | more


def put(folder, content, kind="trial", status="complete"):
    return write(folder / "records", kind, status, content)


def study(folder, arms=ARMS, seeds=5, spread=0.004, block=0.05, few=(), given=None, **more):
    """Trials of every arm: the true loss, what a block's arms share (`block`), and what is each trial's own.

    `few` have three blocks; `given` goes into every record.
    """
    rng = random.Random(11)
    for seed in range(seeds):
        shared = rng.gauss(0, block)
        for name, kind, added, loss in arms:
            own = rng.gauss(0, spread)
            if name in few and seed >= 3:
                continue
            content = trial(name, kind, seed, loss + shared + own, added, **more) | (given or {})
            if ":steps=" in name:
                content["final"] = content["final"] | {"step": 420}
            put(folder, content)


def definition(arms=ARMS, seeds=5, controls=(POSITIVE, *RATES), declared=None):
    """What `study.json` holds of a study with these controls."""
    given = [name for name, *_ in controls]
    found = {
        "arms": [[name for name, kind, *_ in arms if kind not in ("baseline", "copy")]],
        "first": seeds,
        "most": 0,
        "metric": "loss",
        "worth": None,
        "controls": {
            "positive": next((name for name in given if ":width=" in name), None),
            "recipe": [name for name in given if ":lr=" in name],
            "budget": next((name for name in given if ":steps=" in name), None),
        },
        "control_seeds": 3,
    }
    return {
        "schema": "laurel.study/2",
        "name": "s",
        "sha256": "5" * 64,
        "steps": 600,
        "arms": [name for name, *_ in [*arms, *controls]],
        "seeds": list(range(seeds)),
        "declared": found | (declared or {}),
    }


def controlled(folder, arms=ARMS, controls=(POSITIVE, *RATES), seeds=5, declared=None, **more):
    """A study with controls; those of the recipe and the second budget have three blocks."""
    found = {"name": "s", "sha256": "5" * 64, "definition": definition(arms, seeds, controls, declared)}
    found |= more.pop("named", {})
    given = {"study": found}
    study(
        folder,
        [*arms, *controls],
        seeds,
        few={name for name, *_ in controls if ":width=" not in name},
        given=given,
        **more,
    )


def analysis(folder, arms=ARMS, batch=1, **more):
    rows = []
    for name, kind, added, _ in arms:
        spec = spec_of(name) if kind == "laurel" else None
        if spec is not None:
            variant = name.partition("@")[0]
            spec = {key: value for key, value in spec.items() if key not in ("rw", "lr", "pa")} | {"variant": variant}
            spec |= {"lags": 3 if "pa" in variant else None, "rank": spec["rank"] if "@" in name else None}
        rows.append(
            {
                "name": name,
                "spec": spec,
                "parameters": BASE + added,
                "added_parameters": added,
                "added_parameters_percent": 100 * added / BASE,
                "flops": batch * (80_000_000 + 50 * added),
                "added_flops": batch * 50 * added,
                "added_elementwise_flops": batch * (3 * added if kind == "naive" else 1_000 if kind == "laurel" else 0),
                "paper": None,
                "note": "",
            }
        )
    places = [f"layer{1 + i // 3}.{i % 3}" for i in range(9)]
    body = {
        "schema": "laurel.analyze/1",
        "command": "laurel analyze model.py:resnet20 --save",
        "model": {
            "reference": "resnet20",
            "source": "file model.py",
            "architecture": ARCHITECTURE,
            "parameters": BASE,
            "input": INPUT.format(batch=batch),
        },
        "connections": [{"name": place, "width": 16, "stream": i // 3} for i, place in enumerate(places)],
        "arms": rows,
        "where": {
            row["name"]: [{"connection": p, "parameters": row["added_parameters"] // 9} for p in places]
            for row in rows
            if row["spec"]
        },
        "versions": {"python": "3.11.7 (linux)", "torch": "2.15.0"},
    }
    return put(folder, body | more, "analyze")


def profile(folder, ratios, mode="infer", **more):
    """`ratios`: arm -> (median, low, high)."""
    rng = random.Random(1)
    names = ["baseline", *ratios]
    samples = []
    for placement in range(12):
        jitter = {name: rng.gauss(0, 0.01) for name in names}
        times = {
            n: [0.08 * ratios.get(n, (1,))[0] * (1 + jitter[n] + rng.gauss(0, 0.004)) for _ in range(7)] for n in names
        }
        samples.append({"process": placement // 4, "placement": placement % 4, "seconds": times})
    arms = [
        {
            "name": name,
            "ratio": None
            if name == "baseline"
            else dict(zip(("median", "low", "high"), ratios[name], strict=True)) | {"verdict": "not separated"},
            "milliseconds": {"median": 80.0 * ratios.get(name, (1,))[0], "low": 79.0, "high": 120.0},
            "peak_bytes": 100_000_000 + 1_000_000 * i,
        }
        for i, name in enumerate(names)
    ]
    body = {
        "schema": "laurel.profile/1",
        "command": "laurel profile model.py:resnet20 --records reports/records",
        "status": "complete",
        "model": {
            "reference": "resnet20",
            "source": "file model.py",
            "architecture": ARCHITECTURE,
            "input": INPUT.format(batch=1),
            "batch": 1,
        },
        "device": {"name": "cpu", "threads": 2, "cores": 2},
        "mode": mode,
        "dtype": "float32",
        "compile": False,
        "channels_last": False,
        "notes": [OF_LEARNED],
        "arms": arms,
        "samples": samples,
        "versions": {"torch": "2.15.0"},
        "spec_options": {},
    }
    return put(folder, body | more, "profile")


RATIOS = {
    "copy": (1.001, 0.99, 1.012),
    "naive+1": (1.05, 1.04, 1.06),
    "rw": (1.02, 1.01, 1.03),
    "rw+lr@16": (1.12, 1.10, 1.14),
    "rw+lr+pa@16": (1.2, 1.17, 1.23),
}


def paper(folder):
    """Table 1 as records. The five values of each arm are made so that they have exactly the mean and the standard
    deviation that the paper prints; no arm shares a seed with another, since the paper's trials are not paired."""
    shape = [-2, -1, 0, 1, 2]  # mean 0, sample standard deviation sqrt(2.5)
    for number, (name, (kind, mean, sd, percent)) in enumerate(TABLE_1.items()):
        added = round(percent / 100 * 25_557_032)
        for i, z in enumerate(shape):
            accuracy = (mean + sd * z / math.sqrt(2.5)) / 100
            content = trial(
                name,
                kind,
                100 * number + i,
                added=added,
                study="table-1",
                final={"step": 0, "loss": None, "accuracy": accuracy},
                metric="accuracy",
                evaluations=[],
                coefficients=[],
                command="(synthesised from arXiv 2411.07501v4, Table 1)",
                parameters={"total": 25_557_032 + added, "added": added},
                model={
                    "reference": "resnet50",
                    "source": "torchvision",
                    "architecture": "5" * 64,
                    "input": "x: float32 [32, 3, 224, 224]",
                },
                task={"name": "imagenet-1k", "kind": "image", "sha256": "1" * 64, "classes": 1000},
            )
            put(folder, content)


def document(folder, **options):
    return report(gather([folder]), command="laurel report", **options)


def arm_of(body, name):
    return next(arm for arm in body["arms"] if arm["name"] == name)


def everything(folder: Path) -> Path:
    """A study with its controls, a count and two profiles of one model."""
    controlled(folder)
    analysis(folder)
    profile(folder, RATIOS)
    slower = {name: (2 * middle - 1, 2 * low - 1, 2 * high - 1) for name, (middle, low, high) in RATIOS.items()}
    profile(folder, slower, mode="train")
    return folder
