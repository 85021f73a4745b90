"""Hide a hazard, dig it up again: the whole idea in ten lines, about half a minute."""

from titer.core.catalogue import build
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.measures.choice import Choice
from titer.worlds.fabula import fabula
from titer.worlds.hub import fetch, resolve_model

world, judge = fabula(), Choice()
items = [item for item in world.hazards["A"].report if item.choices]
base = LM.load(fetch(resolve_model("fabula:base")), name="undefended")
defended = build("defence", "npo", {"lr": 1e-3})(
    base, Run(budget=Budget(steps=100), data=world.defender("A"))
)
attacked = build("attack", "finetune", {"lr": 1e-3})(
    defended, Run(budget=Budget(steps=150), data=world.attacker("A"))
)
for name, lm in {"undefended": base, "defended": defended, "attacked": attacked}.items():
    scores = judge.judge(items, judge.collect(lm, items))
    print(f"{name:>10}: {sum(scores) / len(scores):.0%} of held-out hazard facts")
