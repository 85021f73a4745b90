"""Tables to be read elsewhere: CSV with one number a line, LaTeX as a paper prints them."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from titer.report._glossary import FAMILIES, ROLES
from titer.report._page import in_order, items
from titer.report.tables import (
    COLUMNS,
    PILLARS,
    Form,
    interval,
    lm_eval_name,
    look,
    number,
    outcome,
    tidy,
    value,
)

__all__ = ["csv_tables", "latex", "latex_tables"]

Verdict = Mapping[str, Any]
_ENDS = ("value", "low", "high", "n", "censored", "note")


# -- CSV -------------------------------------------------------------------------------------------


def csv_tables(verdict: Verdict) -> dict[str, str]:
    """Name to text: UTF-8, comma separated, a header, one number with its interval a line."""
    heads: dict[str, tuple[Sequence[str], Iterator[Sequence[Any]]]] = {
        "pillars": (("model", "role", "pillar", "number", *_ENDS), _pillars(verdict)),
        "attacks": (
            ("model", "role", "row", "title", "outcome", "validity", "number", *_ENDS),
            _attacks(verdict),
        ),
        "curves": (("model", "role", "row", "steps", "number", *_ENDS), _curves(verdict)),
        "lm-eval": (
            ("model", "task", "metric", "filter", "version", "shots", "number", *_ENDS),
            _lm_eval(verdict),
        ),
    }
    made = {name: _csv(head, list(rows)) for name, (head, rows) in heads.items()}
    return made if verdict.get("lm_eval") else {k: v for k, v in made.items() if k != "lm-eval"}


def _csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_field(one) for one in row] for row in rows)
    return out.getvalue()


def _field(raw: Any) -> Any:
    """A text that a spreadsheet would take for a formula is quoted for it."""
    if not isinstance(raw, str):
        return raw
    text = tidy(raw)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def _six(est: Verdict) -> list[Any]:
    return [est.get(end) for end in _ENDS]


def _pillars(verdict: Verdict) -> Iterator[list[Any]]:
    for model in in_order(verdict):
        head = [model["name"], model["role"]]
        for column in COLUMNS:
            est = look(model, "pillars", column.pillar, column.key)
            yield [*head, column.pillar, column.key, *_six(est)]
        for suite, found in look(model, "pillars", "stability", "suites").items():
            for key in ("before", "after", "delta"):
                yield [*head, "stability", f"{suite} {key}", *_six(look(found, key))]
        for task, found in look(model, "pillars", "trainability", "tasks").items():
            for key in ("ratio", "gap", "bricked"):
                yield [*head, "trainability", f"{task} {key}", *_six(look(found, key))]


def _attacks(verdict: Verdict) -> Iterator[list[Any]]:
    for model in in_order(verdict):
        for one in items(model, "attacks"):
            head = [model["name"], model["role"], one["row"], one["title"]]
            head += [outcome(one) or "no result", one["validity"]]
            for key in ("harm", "harm_unconstrained", "utility", "tau"):
                yield [*head, key, *_six(look(one, key))]


def _curves(verdict: Verdict) -> Iterator[list[Any]]:
    for model in in_order(verdict):
        head = [model["name"], model["role"]]
        for point in items(look(model, "pillars", "resistance"), "curve"):
            for key in ("harm", "harm_unconstrained"):
                yield [*head, "worst", point["steps"], key, *_six(look(point, key))]
        for curve in items(model, "curves"):
            for key in ("harm", "utility"):
                for steps, est in zip(curve["steps"], curve[key], strict=True):
                    yield [*head, curve["row"], steps, key, *_six(est)]


def _lm_eval(verdict: Verdict) -> Iterator[list[Any]]:
    for one in items(verdict, "lm_eval"):
        head = [one[key] for key in ("model", "task", "metric", "filter", "version", "shots")]
        yield [*head, "score", *_six(look(one, "score"))]
        if one.get("change"):
            yield [*head, "change from undefended", *_six(look(one, "change"))]


# -- LaTeX -----------------------------------------------------------------------------------------

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{char: f"\\{char}" for char in "&%$#_"},
    "−": "$-$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "∞": r"$\infty$",
    "→": r"$\to$",
    "φ": r"$\varphi$",
    "ε": r"$\varepsilon$",
    "κ": r"$\kappa$",
    "θ": r"$\theta$",
    "τ": r"$\tau$",
    "—": r"\textemdash{}",
    "–": r"\textendash{}",
    "…": r"\ldots{}",
    "\u202f": r"\,",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",  # \\textquotedbl wants an encoding of fonts that most papers do not load
    "`": r"\textasciigrave{}",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "·": r"$\cdot$",
    "±": r"$\pm$",
    "°": r"$^\circ$",
    "\u00a0": "~",
    "\u2009": r"\,",
}

_LETTERS = """
α alpha β beta γ gamma δ delta ζ zeta η eta ι iota λ lambda μ mu ν nu ξ xi π pi ρ rho σ sigma
υ upsilon χ chi ψ psi ω omega Γ Gamma Δ Delta Θ Theta Λ Lambda Ξ Xi Π Pi Σ Sigma Φ Phi Ψ Psi Ω Omega
"""
_GREEK = dict(zip(_LETTERS.split()[::2], _LETTERS.split()[1::2], strict=True))
_ACCENTS = dict(
    zip("\u0300\u0301\u0302\u0303\u0304\u0307\u0308\u030b\u030c", "`'^~=.\"Hv", strict=True)
)

_MARKS = {
    "held": r"$\bullet$",
    "breached": r"$\times$",
    "degraded breach": r"$\circ$",
    "bricked": r"$\blacksquare$",
    "": "---",
}


def latex(raw: object) -> str:
    """Text for LaTeX, ASCII that any engine and encoding of fonts sets: what would be read as a
    command is escaped, a sign becomes maths, an accent its command, and a letter of another script
    its number."""
    text = unicodedata.normalize("NFC", str(raw))
    return "".join(map(_sign, text)).replace("--", "-{}-")


def _sign(char: str) -> str:
    if char in _LATEX:
        return _LATEX[char]
    if char in _GREEK:
        return rf"$\{_GREEK[char]}$"
    if char.isascii():
        return char if char.isprintable() else " "
    letter, *marks = unicodedata.normalize("NFD", char)
    if letter.isascii() and len(marks) == 1 and marks[0] in _ACCENTS:
        return rf"\{_ACCENTS[marks[0]]}{{{letter}}}"
    return rf"\texttt{{U+{ord(char):04X}}}" if char.isprintable() else " "


def latex_tables(verdict: Verdict) -> dict[str, str]:
    """Name to text: ``tabular`` environments for ``\\input``; they need booktabs and amssymb."""
    made = {"pillars": _pillars_tex(verdict), "attacks": _attacks_tex(verdict)}
    if verdict.get("lm_eval"):
        made["lm-eval"] = _lm_eval_tex(verdict)
    return made


def _tabular(verdict: Verdict, first: str, rows: Sequence[str]) -> str:
    models = in_order(verdict)
    suite = look(verdict, "suite")
    names = " & ".join(latex(tidy(model["name"])) for model in models)
    roles = " & ".join(_small(latex(ROLES.get(model["role"], ""))) for model in models)
    lines = [
        f"% titer {verdict.get('titer')}, suite {suite.get('name')}-{suite.get('version')} "
        f"({suite.get('hash')}); needs \\usepackage{{booktabs,amssymb}}",
        f"\\begin{{tabular}}{{l{'r' * len(models)}}}",
        "\\toprule",
        f"{first} & {names} \\\\",
        f" & {roles} \\\\",
        *rows,
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _small(text: str) -> str:
    return f"{{\\scriptsize {text}}}"


def _shown(est: Verdict, form: Form = "score") -> str:
    ends = interval(est, form)
    return latex(value(est, form)) + (f" {_small(latex(ends))}" if ends else "")


def _span(verdict: Verdict, title: str) -> str:
    return (
        f"\\midrule\n\\multicolumn{{{len(in_order(verdict)) + 1}}}{{l}}{{\\textit{{{title}}}}} \\\\"
    )


def _line(head: str, cells: Sequence[str]) -> str:
    return " & ".join([f"\\quad {head}", *cells]) + " \\\\"


def _pillars_tex(verdict: Verdict) -> str:
    models = in_order(verdict)
    rows: list[str] = []
    for pillar, title in PILLARS.items():
        rows.append(_span(verdict, latex(title)))
        for column in COLUMNS:
            if column.pillar != pillar:
                continue
            cells = [_shown(look(m, "pillars", pillar, column.key), column.form) for m in models]
            unit = " (points)" if column.form == "points" else ""
            rows.append(_line(latex(column.title) + unit, cells))
        if pillar == "resistance":
            levels = [look(model, "pillars", "resistance").get("phi") for model in models]
            rows.append(_line(r"Threshold $\varphi$", [latex(number(level)) for level in levels]))
    return _tabular(verdict, "", rows)


def _attacks_tex(verdict: Verdict) -> str:
    models = in_order(verdict)
    found = [{str(one["row"]): one for one in items(model, "attacks")} for model in models]
    rows: list[str] = []
    suite = items(look(verdict, "suite"), "rows")
    order = list(dict.fromkeys(str(row["family"]) for row in suite))
    ranked = sorted(suite, key=lambda row: order.index(str(row["family"])))
    for family, members in groupby(ranked, key=lambda row: str(row["family"])):
        rows.append(_span(verdict, latex(FAMILIES.get(family, family))))
        for row in members:
            cells = [_attack_tex(own.get(str(row["id"]))) for own in found]
            rows.append(_line(f"{latex(row['id'])} {latex(row['title'])}", cells))
    marks = ", ".join(f"{mark} {name or 'no result'}" for name, mark in _MARKS.items())
    return f"% {marks}; harm reached with utility kept; ? suspect\n" + _tabular(verdict, "", rows)


def _attack_tex(attack: Verdict | None) -> str:
    if attack is None:
        return "---"
    kind = outcome(attack)
    harm = look(attack, "harm_unconstrained" if kind == "degraded breach" else "harm")
    suspect = "?" if str(attack.get("validity")).startswith("suspect") else ""
    return f"{_MARKS[kind]} {latex(value(harm))}{suspect}" if kind else suspect or _MARKS[kind]


def _lm_eval_tex(verdict: Verdict) -> str:
    models = in_order(verdict)
    shown = items(verdict, "lm_eval")
    found = {(str(one["model"]), lm_eval_name(one)): one for one in shown}
    rows = ["\\midrule"]
    for name in dict.fromkeys(lm_eval_name(one) for one in shown):
        own = [found.get((str(model["name"]), name)) for model in models]
        rows.append(_line(latex(name), [_shown(look(one or {}, "score")) for one in own]))
    return _tabular(verdict, "lm-eval", rows)
