"""How a defence and its adversary played, as the defence wrote it down."""

from __future__ import annotations

from dataclasses import dataclass

from titer.report._game import course
from titer.report.models import in_order
from titer.report.section import Section, Svg
from titer.verdict.parts import ModelVerdict, Verdict

__all__ = ["SECTION", "Game", "data", "figures"]

SECTION = Section(title="How the defender and its adversary played", after="imported", nav="Games")


@dataclass(frozen=True, slots=True)
class Game:
    """One model's course, drawn."""

    model: ModelVerdict
    drawing: Svg


def data(verdict: Verdict) -> tuple[Game, ...]:
    """The courses of those that wrote one down."""
    made = ((model, course(model.course, model.name)) for model in in_order(verdict))
    return tuple(Game(model, drawing) for model, drawing in made if drawing)


def figures(rows: tuple[Game, ...]) -> dict[str, Svg]:
    """A drawing a model."""
    return {f"game-{game.model.name}": game.drawing for game in rows}
