"""What a person calls in Python; the command line, studies and examples call the same.

::

    import titer

    world = titer.world("fabula")
    base = titer.load("fabula:base")
    safe = titer.immunise(base, "npo", world["A"], steps=100, lr=1e-3)
    found = titer.attack(safe, "S03", world["A"], steps=150, undefended=base)
    found.harm, found.utility, found.outcome
    verdict = titer.bench(safe, undefended=base, suite="quick", data=world, out="runs/mine")
    titer.read("runs/mine")
"""

from titer.api.folders import read, report
from titer.api.one import attack, immunise, world
from titer.api.studies import bench
from titer.models import load

__all__ = ["attack", "bench", "immunise", "load", "read", "report", "world"]
