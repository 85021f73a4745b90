"""Immunise a model, attack it, and see what became of it: ten lines, about half a minute."""

import titer

world = titer.world("fabula")
base = titer.load("fabula:base", name="undefended")
safe = titer.immunise(base, "npo", world["A"], steps=100, lr=1e-3)
plain = titer.attack(base, "finetune", world["A"], steps=150, lr=1e-3)
found = titer.attack(safe, "finetune", world["A"], steps=150, lr=1e-3, undefended=plain)
print(plain, found, sep="\n")
for point in found.checkpoints:
    print(f"{point.steps:>4} steps: {point.harm:.0%} of held-out hazard facts, {point.outcome}")
