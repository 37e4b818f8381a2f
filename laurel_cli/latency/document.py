"""The answer of a profile as a document, and with every sample as a record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from laurel_cli.devices import is_host
from laurel_cli.latency import allocator
from laurel_cli.latency.estimate import Interval, Ratio
from laurel_cli.latency.figures import ArmTime, arm_time
from laurel_cli.latency.plan import BASELINE, COPY, FOLDED, NAIVE, ProfilePlan
from laurel_cli.latency.samples import Samples
from laurel_cli.latency.stability import doubts
from laurel_cli.results import ResultOfArms
from laurel_cli.verdict.paired import ALPHA, CONFIDENCE

SCHEMA = "laurel.profile/1"
OF_FOLDED = {
    "infer": "folded arms are compared with the folded baseline alone, its batch norms merged as theirs are",
    "train": "folded arms have RW's a as a factor of their branches' last weights, where it still learns; they are "
    "compared with a baseline that has nothing to fold",
}
OF_LEARNED = "coefficients were moved from where they start, as training does: of a 1 a processor makes no product"
AT_START = (
    "RW's a and b were 1 when arms were timed, of which a processor makes no product: those with it may take longer "
    "once they are trained"
)
MUCH_SYSTEM_TIME = 0.05  # of the time of a call


@dataclass(frozen=True)
class Profile(ResultOfArms[ArmTime]):
    """The answer of `profile`; `interrupted` by Ctrl-C, `notes` on what was decided on the way."""

    plan: ProfilePlan
    samples: Samples
    batch: int
    interrupted: bool
    command: str
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The JSON document, schema "laurel.profile/1"."""
        job, samples = self.plan.job, self.samples
        whole = samples.whole()
        ratios, to_naive = samples.to_baseline(), samples.to_naive()
        return {
            "schema": SCHEMA,
            "command": self.command,
            "status": "partial" if self.interrupted else "complete",
            "model": {
                "reference": job.model,
                "source": samples.ready["source"],
                "architecture": samples.ready["architecture"],
                "input": samples.ready["input"],
                "batch": self.batch,
            },
            "device": {"name": job.device, **(samples.facts[0] if samples.facts else {})},
            "allocator": allocator.facts(job.allocator, job.device),
            "mode": job.work["mode"],
            "dtype": job.work["dtype"],
            "compile": job.work["compile"],
            "channels_last": job.work["channels_last"],
            "protocol": {
                "processes": samples.processes,
                "placements": len(whole),
                "rounds": sum(len(arms[BASELINE]) for arms in whole.values()),
                "first_look": samples.first_look,
                "processes_needed": samples.processes_needed(self.plan.precision),
                "precision": self.plan.precision,
                "max_time": self.plan.max_time,
                "confidence": CONFIDENCE,
                "alpha": ALPHA,
                "correction": "holm",
                "families": {BASELINE: samples.judged, NAIVE: list(to_naive)},
                "seed": job.seed,
            },
            "unit": samples.ready["work"][1],
            "noise_floor": _ratio(ratios.get(COPY)),
            "arms": [self._arm(name, ratios.get(name), to_naive.get(name)) for name in samples.arms],
            **self._folded(),
            "warnings": self._warnings(ratios),
            "notes": [
                *self.notes,
                *([OF_LEARNED] if samples.ready.get("learns") else []),
                *([OF_FOLDED[job.work["mode"]]] if job.folded else []),
            ],
        }

    def figures(self) -> list[ArmTime]:
        """How fast and how large every arm is, in their order."""
        return [arm_time(arm) for arm in self.document()["arms"]]

    def record(self) -> dict[str, Any]:
        """The document with every sample, for the disk."""
        samples = self.samples
        return self.document() | {
            "samples": [
                {"process": process, "placement": placement, "seconds": arms}
                for (process, placement), arms in samples.seconds.items()
            ],
            "orders": samples.orders,
            "builds": samples.builds,
            "first_calls": samples.first,
            "usage": samples.usage,
            "facts": samples.facts,
            "options": self.plan.job.options,
            "spec_options": self.plan.job.spec_options,
        }

    def _arm(self, name: str, ratio: Ratio | None, to_naive: Ratio | None) -> dict[str, Any]:
        samples = self.samples
        took = samples.milliseconds(name)
        peak, static, predicted = samples.peaks.get(name, (None, None, None))
        usage = samples.used(name)
        return {
            "name": name,
            "ratio": _ratio(ratio),
            "to_naive": _ratio(to_naive),
            "milliseconds": _interval(took),
            "throughput": 1000 * samples.ready["work"][0] / took.median,
            "first_call_seconds": fmean(samples.first[name]),
            "page_faults": usage.page_faults / usage.calls if usage.calls else None,
            "system_share": usage.system_seconds / usage.seconds if usage.seconds else None,
            "peak_bytes": peak,
            "static_bytes": static,
            "predicted_bytes": predicted,
        }

    def _folded(self) -> dict[str, Any]:
        """The arms as they would be deployed, apart: what they are compared with is none of the other arms."""
        samples = self.samples
        if not self.plan.job.folded:
            return {}
        ratios = samples.to_folded_baseline()
        arms = [
            {key: value for key, value in self._arm(name, ratios.get(name), None).items() if key != "to_naive"}
            | samples.folded[name]
            for name in samples.folded_arms
        ]
        return {"folded": {"baseline": BASELINE + FOLDED, "family": list(ratios), "arms": arms}}

    def _warnings(self, ratios: dict[str, Ratio]) -> list[str]:
        samples, plan = self.samples, self.plan
        by_arm = {
            arm: [
                [second for (p, _), arms in samples.whole().items() if p == process for second in arms[arm]]
                for process in {process for process, _ in samples.whole()}
            ]
            for arm in (*samples.arms, *samples.folded_arms)
        }
        said = [*samples.warnings, *doubts(by_arm)]
        every = ratios | samples.to_folded_baseline()
        judged = [arm for arm in every if arm != COPY]
        wide = [arm for arm in judged if every[arm].width >= plan.precision]
        if wide and not self.interrupted:
            said.append(
                f"the interval of {', '.join(wide)} is still wider than {100 * plan.precision:g} % after "
                f"`max_time={plan.max_time:g}` s{self._rest()}"
            )
        if COPY in ratios and ratios[COPY].verdict != "not separated":
            said.append("the baseline's own copy differs from it: read differences of that size as noise")
        said += [*self._system_time(), *self._folded_otherwise()]
        return list(dict.fromkeys(said))

    def _rest(self) -> str:
        """What would have been needed."""
        samples = self.samples
        if samples.processes < samples.first_look:
            return f": {samples.processes} of {samples.first_look} processes fitted in"
        needed = samples.processes_needed(self.plan.precision)
        return "" if needed is None else f": it would take {needed} processes, {samples.processes} fitted in"

    def _system_time(self) -> list[str]:
        """What a share of the time in the kernel says of a comparison."""
        shares = {name: self.samples.used(name) for name in self.samples.arms}
        busy = {
            name: usage.system_seconds / usage.seconds
            for name, usage in shares.items()
            if usage.seconds and usage.system_seconds > MUCH_SYSTEM_TIME * usage.seconds
        }
        if not busy or not is_host(self.plan.job.device):
            return []
        most = max(busy, key=lambda name: busy[name])
        return [
            f"up to {100 * busy[most]:.0f} % of one processor's time ({most}) went to the system, for "
            f"{shares[most].page_faults / shares[most].calls:,.0f} page faults a call"
        ]

    def _folded_otherwise(self) -> list[str]:
        """Folded arms of whose batch norms not as many are merged as of the baseline's: their ratios hold that too."""
        became = self.samples.folded
        base = became.get(BASELINE + FOLDED)
        return [
            f"{name}: {own['merged']} of its {own['norms']} batch norms are merged, of the baseline's "
            f"{base['merged']} of {base['norms']}: its ratio holds the difference"
            for name in self.samples.folded_arms
            if base and _merged_otherwise(own := became[name], base)
        ]


def is_at_start(content: Mapping[str, Any]) -> bool:
    """Whether a profile, as a document or a record, is of `AT_START`: an older one of inference on a processor."""
    name = str((content.get("device") or {}).get("name", ""))
    eager = content.get("mode") == "infer" and not content.get("compile") and is_host(name.partition(" ")[0])
    return eager and OF_LEARNED not in (content.get("notes") or ())


def _merged_otherwise(own: dict[str, Any], base: dict[str, Any]) -> bool:
    """Whether an arm, which may have a block more than the baseline, keeps another share and number of its norms."""
    shares = own["merged"] * base["norms"], base["merged"] * own["norms"]
    kept = own["norms"] - own["merged"], base["norms"] - base["merged"]
    return shares[0] != shares[1] and kept[0] != kept[1]


def _ratio(found: Ratio | None) -> dict[str, Any] | None:
    if found is None:
        return None
    said = {"verdict": found.verdict, "p": found.p, "p_holm": found.p_holm}
    return _interval(found) | said


def _interval(found: Interval) -> dict[str, Any]:
    low, high = (found.low, found.high) if math.isfinite(found.width) else (None, None)
    return {"median": found.median, "low": low, "high": high, "confidence": found.confidence}
