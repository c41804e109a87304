"""Analyses as Markdown tables, one row a report."""

from collections.abc import Mapping

from matchkit.evaluate.analyses import Analyses, Trust
from matchkit.evaluate.protocol import Average, Reference
from matchkit.evaluate.report import Report, markdown
from matchkit.evaluate.symmetry import KINDS
from matchkit.evaluate.visibility import VARIANTS

EVIDENCE = ("similarity", "margin", "probability", "cycle")
NOTHING = "-"


def analysis_tables(reports: Mapping[str, Report], *, reference: Reference, average: Average, alpha: str) -> list[str]:
    """Those tables that one of the reports has something for; reports that have nothing for one have no row in it."""
    told = {name: report.analyses for name, report in reports.items() if report.analyses is not None}
    tables = [
        symmetry_table(told, reference=reference, alpha=alpha),
        trust_table(told, reference=reference, alpha=alpha),
        visibility_table(told, reference=reference, average=average, alpha=alpha),
    ]
    return [table for table in tables if table]


def symmetry_table(analyses: Mapping[str, Analyses], *, reference: Reference, alpha: str) -> str:
    """What lies at the found places, in percent of all keypoints; "" where no report tells."""
    rows = []
    for name, told in analyses.items():
        shares = told.symmetry.get(reference, {}).get(alpha)
        if shares:
            rows.append([name, *(f"{shares[kind]:.1f}" for kind in KINDS)])
    return markdown([f"method (within {alpha} of, {reference})", *KINDS], rows) if rows else ""


def trust_table(analyses: Mapping[str, Analyses], *, reference: Reference, alpha: str) -> str:
    """How far the evidence can be trusted: AURC (less is better) and AUROC (more is) of each kind; "" without any."""
    rows = []
    for name, told in analyses.items():
        trusted = told.trust.get(reference, {}).get(alpha)
        if trusted and told.way_back is not None:
            error = trusted["probability"].ece if "probability" in trusted else None
            pck = told.way_back.pck.get(reference, {}).get(alpha)
            back = [f"{told.way_back.mutual:.1f}", _number(pck), f"{told.way_back.cycle:.1f}"]
            rows.append([name, *(_trusted(trusted.get(kind)) for kind in EVIDENCE), _number(error), *back])
    header = [f"method (AURC / AUROC at {alpha}, {reference})", *EVIDENCE, "ECE"]
    return markdown([*header, "mutual %", f"PCK@{alpha} of mutual", "cycle (px)"], rows) if rows else ""


def visibility_table(analyses: Mapping[str, Analyses], *, reference: Reference, average: Average, alpha: str) -> str:
    """PCK-dagger; KAP, whose average is `image` or, for any other, `keypoint`; and visibility. "" without any."""
    kap_average = "image" if average == "image" else "keypoint"
    rows = []
    for name, told in analyses.items():
        dagger = told.dagger.get(reference, {}).get(average, {}).get(alpha)
        kaps = [told.kap.get(variant, {}).get(kap_average, {}).get(alpha) for variant in VARIANTS]
        if dagger is not None:
            rows.append([name, *(_number(value) for value in (dagger, *kaps, told.visibility))])
    header = [f"method (at {alpha}, {reference})", "PCK-dagger", *(f"KAP, {variant}" for variant in VARIANTS)]
    return markdown([*header, "visibility AUROC"], rows) if rows else ""


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"


def _trusted(trust: Trust | None) -> str:
    return NOTHING if trust is None else f"{trust.aurc:.1f} / {_number(trust.auroc)}"
