"""The checks: may the attacks on a model be believed? One file a check, found by listing.

A check has a question, a number, a threshold and a flag. *suspect* means that an attack that was
held is not shown as held; *void*, that it is evidence of nothing; *not run*, that the study has not
the trials to say. What a check needs beside the attacks are trials of the role ``check``.

Source: the pitfalls of Qi et al. 2024, arXiv:2412.07097; the checks on masked gradients of Athalye
et al. 2018, arXiv:1802.00420, and Carlini et al. 2019, arXiv:1902.06705, carried over to weights.
"""
