"""The result card: what must stand beside a number for another lab to compare with it, for machines and for people."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matchkit.evaluate.report import Report, markdown

ALPHAS = (0.01, 0.05, 0.10, 0.15, 0.20)
"""What the field prints."""
UNKNOWN = "not told"
Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Card:
    """All that is known of a result.

    Attributes:
        data: the dataset, its split and the digest of its list of pairs, and what was counted.
        partial: which part of the split was scored, or "" for all of it.
        scoring: the protocol.
        scores: PCK in percent by reference, average and alpha.
        method: the head, the matcher and what they were told.
        features: the backbone, its weights, input, grids, timesteps, noise and number type at rest; none of a method
            without features.
        privileged: what the method was given beside the two photographs and the source's keypoints.
        further: breakdowns, analyses and intervals, as the report has them.
    """

    data: Facts
    partial: str
    scoring: Facts
    scores: Mapping[str, Mapping[str, Mapping[str, float]]]
    method: Facts
    features: Facts
    privileged: tuple[str, ...]
    further: Facts

    def save(self, path: Path) -> None:
        """Writes JSON, and Markdown beside it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n")
        path.with_suffix(".md").write_text(self.markdown())

    def markdown(self) -> str:
        """The card as a page."""
        name = str(self.method.get("name", UNKNOWN))
        parts = [f"# {name} on {self.data.get('dataset', UNKNOWN)}, {self.data.get('split', UNKNOWN)}"]
        if self.partial:
            parts.append(f"**Partial: {self.partial}. Not to be compared with whole splits.**")
        parts += [_section("Data", self.data), _section("Scoring", self.scoring), self._scores()]
        told = "\n".join(f"- {entry}" for entry in self.privileged) or "- nothing"
        parts += [_section("Method", self.method), _section("Features", self.features)]
        parts += [f"## Given beside photographs and source keypoints\n\n{told}", _section("Further", self.further)]
        return "\n\n".join(parts) + "\n"

    def _scores(self) -> str:
        rows = [
            [f"{reference}, a {average}", *(f"{value:.2f}" for value in values.values())]
            for reference, averages in self.scores.items()
            for average, values in averages.items()
        ]
        first = next(iter(next(iter(self.scores.values())).values()))
        return "## PCK in percent\n\n" + markdown(["reference, average", *(f"@{alpha}" for alpha in first)], rows)


def result_card(report: Report, full: Report) -> Card:
    """The card of a report.

    Args:
        report: under the protocol that is used.
        full: of the same predictions at `ALPHAS`, with the references that the dataset can serve.
    """
    made_by = report.made_by
    spec: Facts = made_by.get("spec", {})
    limit = made_by.get("limit", 0)
    protocol = {key: value for key, value in dataclasses.asdict(report.protocol).items() if value not in ("", (), None)}
    return Card(
        data={key: made_by.get(key, UNKNOWN) for key in ("dataset", "split", "manifest")} | dict(report.counts),
        partial=f"{report.counts['pairs']:,} pairs, by --set limit={limit}" if limit else "",
        scoring=protocol,
        scores=full.scores,
        method=_method(made_by),
        features=_features(spec, str(made_by.get("features", UNKNOWN))) if spec else {},
        privileged=privileged(made_by),
        further=_further(report),
    )


def _method(made_by: Facts) -> Facts:
    names = ("head", "config", "fit", "matcher", "points", "alignment")
    return {"name": made_by.get("method", UNKNOWN)} | {name: made_by[name] for name in names if name in made_by}


def _features(spec: Facts, digest: str) -> Facts:
    layers: Sequence[Facts] = spec.get("layers", ())
    return {
        "spec": digest,
        "backbone": spec.get("backbone", UNKNOWN),
        "weights": spec.get("weights", UNKNOWN),
        "input": f"{spec['input_size'][0]} x {spec['input_size'][1]} pixels, {spec.get('fit', UNKNOWN)}",
        "layers": {
            layer["name"]: f"{layer['channels']} channels, {layer['grid'][0]} x {layer['grid'][1]} cells"
            for layer in layers
        },
        "timesteps": list(spec.get("timesteps", ())),
        "at rest": spec.get("dtype", UNKNOWN),
        "options": dict(spec.get("options", {})),
        "lineage": list(spec.get("lineage", ())),
    }


def privileged(made_by: Facts) -> tuple[str, ...]:
    """What a method was given that a user with two photographs does not have, as far as the predictions tell."""
    found = []
    fit, options = made_by.get("fit", {}), made_by.get("spec", {}).get("options", {})
    alignment = made_by.get("alignment", {})
    if made_by.get("method") == "same-relative-position":
        found.append("the boxes of both objects")
    if fit.get("train"):
        found.append(f"keypoints of split {fit['train']} of {fit.get('dataset', UNKNOWN)}, which it was trained on")
    if "{category}" in str(options.get("prompt", "")):
        found.append(f"the object's category, in the prompt '{options['prompt']}'")
    if alignment:
        found.append(f"the source in other poses: {', '.join(alignment['poses'])}")
        if "hflip" in alignment["poses"]:
            found.append("which keypoints mirror each other")
        if alignment.get("masks", "none") != "none":
            where = "both photographs" if alignment.get("mask_target") else "the source"
            found.append(f"the object's {alignment['masks']} in {where}")
    return tuple(found)


def _further(report: Report) -> Facts:
    told: dict[str, Any] = {}
    if report.intervals:
        told["95 % intervals, average keypoint"] = report.intervals
    for name, parts in report.breakdowns.items():
        told[f"breakdown {name}"] = {part: dataclasses.asdict(value) for part, value in parts.items()}
    if report.analyses is not None:
        told["analyses"] = {key: value for key, value in dataclasses.asdict(report.analyses).items() if value}
    return told


def _section(title: str, facts: Facts) -> str:
    lines = [f"- {name}: {_told(value)}" for name, value in facts.items()] or ["- nothing"]
    return f"## {title}\n\n" + "\n".join(lines)


def _told(value: object) -> str:
    """A value on one line."""
    if isinstance(value, str):
        return value
    return f"`{json.dumps(value, sort_keys=True)}`"
