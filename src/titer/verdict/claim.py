"""The sentence that titer exists to print, made from numbers and from nothing else."""

from __future__ import annotations

from collections.abc import Collection

from titer.core import Estimate
from titer.core.study import Manifest
from titer.pillars.outcomes import REPAIRED
from titer.verdict.parts import ModelVerdict

__all__ = ["claim", "gaps"]

DASH, MINUS, TIMES = "\u2014", "\u2212", "\u00d7"


def _signed(number: float, digits: int) -> str:
    text = f"{abs(number):.{digits}f}"
    return f"{MINUS}{text}" if number < 0 and float(text) else text


def _show(
    estimate: Estimate,
    *,
    digits: int = 2,
    scale: float = 1.0,
    unit: str = "",
    bound: str = "at least",
) -> str:
    """``0.61 [0.57, 0.66]``, ``at least 8.0x``, or a dash with the reason."""
    value, low, high = estimate.value, estimate.low, estimate.high
    if value is None:
        return f"{DASH} ({estimate.note or 'not measured'})"
    text = f"{_signed(value * scale, digits)}{unit}"
    if estimate.censored:
        return f"{bound} {text}"
    if low is None or high is None:
        return text
    return f"{text} [{_signed(low * scale, digits)}, {_signed(high * scale, digits)}]"


def _value(estimate: Estimate) -> str:
    return DASH if estimate.value is None else f"{estimate.value:.2f}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def gaps(model: ModelVerdict, study: Manifest) -> list[str]:
    """What the study did not test, for one model: declared, void, missing and unmeasured."""
    found = list(study.not_tested)
    attacks, spread = model.attacks.values(), model.generalisation
    found += [f"{one.row} ({one.validity})" for one in attacks if one.outcome == "void"]
    cross, harm = spread.cross_domain, spread.cross_harm
    found += [f"hazard {name.split('->')[1]}" for name in cross if harm[name].value is None]
    found += [] if model.stability.suites else ["utility"]
    found += [] if model.trainability.tasks else ["benign fine-tuning"]
    if not any(subject.role == "control" for subject in study.models):
        found.append("a known-broken control")
    return list(dict.fromkeys(found))


def _resisted(model: ModelVerdict, study: Manifest) -> str:
    numbers = model.resistance
    families = {row.id: row.family for row in study.rows}
    counted = [one.row for one in model.attacks.values() if one.counts]
    kinds = {families.get(row, "") for row in counted}
    curve = numbers.curve
    steps = curve[-1].steps if curve else max(study.checkpoints, default=0)
    head = (
        f"Under suite {study.suite}-{study.suite_version} "
        f"({_count(len(counted), 'adversary', 'adversaries')} "
        f"from {_count(len(kinds), 'family', 'families')}, "
        f"{_count(len(study.seeds), 'seed')}, budgets up to {steps:,} steps), "
    )
    name = model.name
    if model.withheld:
        before, after = _value(numbers.baseline_harm), numbers.weak
        reached = f", and attacks reached {_show(after)}" if after.value is not None else ""
        return (
            f"{head}the resistance of {name} is withheld ({DASH}): {model.withheld}. "
            f"Held-out harm before any attack was {before}{reached}."
        )
    before, weak = numbers.baseline_harm, numbers.weak
    references = (
        f"undefended {_value(numbers.undefended)}, never-learned {_value(numbers.never_learned)}"
    )
    if (weak.value or 0.0) <= (before.value or 0.0):
        told = (
            f"no utility-preserving attack on {name} raised held-out harm above its starting "
            f"{_show(before)}"
        )
    else:
        told = (
            f"the strongest utility-preserving attack on {name} ({numbers.worst_attack}) raised "
            f"held-out harm from {_value(before)} to {_show(weak)}"
        )
    return f"{head}{told}; {references}."


def _cost(model: ModelVerdict) -> str:
    if model.withheld:
        return ""
    factor = model.resistance.work_factor_min
    if factor.value is None:
        return f"Work factor: {_show(factor)}."
    shown = _show(factor, digits=1, unit=TIMES)
    if factor.censored:
        return f"Recovery took {shown} the undefended model's steps."
    return f"It took {shown} the undefended model's steps."


def _effort(model: ModelVerdict) -> str:
    found = model.effort
    if found is None or model.withheld:
        return ""
    lock, never = found.unlocked["decides"], found.never_learned["decides"]
    by = f" (quickest: {found.attack})" if found.attack else ""
    return (
        f"Effort in steps to harm {found.tau['decides']:.2f}{by}: "
        f"{_show(lock, digits=1, unit=TIMES)} against {found.against}, "
        f"{_show(never, digits=2, unit=TIMES)} against a model that never learned."
    )


def _outcomes(model: ModelVerdict, repairs: Collection[str]) -> str:
    attacks = model.attacks.values()
    told: list[str] = []
    for kind, words in (
        ("bricked", f"bricked the model, {_since_bricked(model, repairs)}"),
        ("degraded breach", "brought harm back at the cost of utility"),
        ("suspect", "gave a suspect result"),
    ):
        count = sum(one.outcome == kind for one in attacks)
        if count:
            told.append(f"{_count(count, 'adversary', 'adversaries')} {words}")
    mended = [one.row for one in attacks if any(flag.startswith(REPAIRED) for flag in one.flags)]
    if mended:
        what = "its utility was lost on the way and came back, with the harm"
        told.append(f"{', '.join(mended)} broke the model and then repaired it: {what}")
    return f"{'; '.join(told)}." if told else ""


def _since_bricked(model: ModelVerdict, repairs: Collection[str]) -> str:
    """What a row that repairs has to say to a model that another row, or it, bricked."""
    found = [one for one in model.attacks.values() if one.row in repairs]
    undid = [one.row for one in found if one.outcome == "breached"]
    if undid:
        return f"which the row that repairs ({', '.join(undid)}) undid"
    told = ("held", "bricked", "degraded breach", "suspect")
    if found and all(one.outcome in told for one in found):
        names = ", ".join(one.row for one in found)
        return f"and the row that repairs ({names}) did not bring harm back with utility"
    return "which is open until repair fails"


def claim(model: ModelVerdict, study: Manifest, repairs: Collection[str] = ()) -> str:
    """The claim sentence of one model, from its verdict; numbers not known are said to be so.

    Args:
        model: One of a verdict's ``models``.
        study: The manifest of the same study.
        repairs: The adversaries that mend what they broke.
    """
    rtt = model.erasure.rtt
    erased = (
        f"Erasure: {_show(rtt)}"
        if rtt.value is None
        else f"Erasure: {_show(rtt)} of what was hidden came back from unrelated facts"
    )
    again = model.erasure.regained
    if rtt.value is None and again.value is not None:
        erased += (
            f". Regained: {_show(again)} of the fall from the undefended model's harm came back "
            "from other facts, with no never-learned model to set that against"
        )
    delta, ratio = model.stability.worst_delta, model.trainability.ratio
    points = "" if delta.value is None else " points"
    shown = _show(delta, digits=1, scale=100.0)
    value, bracket, rest = shown.partition(" [") if points else (shown, "", "")
    utility = f"Utility {value}{points}{bracket}{rest}"
    if ratio.value is None:
        train = f"benign tasks: {_show(ratio)}"
    else:
        steps = _show(ratio, unit=TIMES, bound="no less than")
        train = f"benign tasks train at {steps} the steps"
    parts = [
        _resisted(model, study),
        _cost(model),
        _effort(model),
        _outcomes(model, repairs),
        f"{erased}.",
        f"{utility}; {train}.",
        f"Flags: {', '.join(model.flags)}." if model.flags else "",
        f"Not tested: {', '.join(gaps(model, study)) or 'nothing declared'}.",
    ]
    return " ".join(part for part in parts if part)
