"""Text and tables for a paper: ASCII that any engine sets, with booktabs and amssymb."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from titer.report.glossary import ROLES
from titer.report.models import in_order
from titer.report.numbers import Form, Number, interval, number, tidy, value
from titer.report.section import Table
from titer.verdict.parts import Verdict

__all__ = ["latex", "line", "plain_table", "shown", "small", "span", "tabular"]

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


def tabular(verdict: Verdict, first: str, rows: Sequence[str]) -> str:
    """A table of models, one a column, for ``\\input``."""
    models = in_order(verdict)
    suite = verdict.suite
    names = " & ".join(latex(tidy(model.name)) for model in models)
    roles = " & ".join(small(latex(ROLES[model.role])) for model in models)
    lines = [
        f"% titer {tidy(verdict.titer)}, suite {tidy(suite.title)} ({tidy(suite.hash)}); "
        "needs \\usepackage{booktabs,amssymb}",
        f"\\begin{{tabular}}{{l{'r' * len(models)}}}",
        "\\toprule",
        f"{first} & {names} \\\\",
        f" & {roles} \\\\",
        *rows,
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def plain_table(table: Table) -> str:
    """Any table as it is, one column a head."""
    lines = [
        f"\\begin{{tabular}}{{{'l' * len(table.heads)}}}",
        "\\toprule",
        " & ".join(map(latex, table.heads)) + " \\\\",
        "\\midrule",
        *(" & ".join(map(_field, row)) + " \\\\" for row in table.rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _field(raw: str | float | bool | None) -> str:
    if raw is None or isinstance(raw, float):
        return latex(number(raw))
    return latex(tidy(raw))


def small(text: str) -> str:
    """Text of the table's own, smaller."""
    return f"{{\\scriptsize {text}}}"


def shown(est: Number, form: Form = "score") -> str:
    """A number with its interval."""
    ends = interval(est, form)
    return latex(value(est, form)) + (f" {small(latex(ends))}" if ends else "")


def span(columns: int, title: str) -> str:
    """A heading over all of so many models."""
    return f"\\midrule\n\\multicolumn{{{columns + 1}}}{{l}}{{\\textit{{{title}}}}} \\\\"


def line(head: str, cells: Sequence[str]) -> str:
    """One line of a table of models."""
    return " & ".join([f"\\quad {head}", *cells]) + " \\\\"
