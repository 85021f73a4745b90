"""The key side of keyed architectures: seal weights, unseal them, change who may.

The bytes are described in ``docs/reference/sealed-format.md``. Nothing here but ``merge`` needs
torch.
"""
