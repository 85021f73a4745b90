"""titer: immunise open-weight language models, and measure immunity."""

__version__ = "0.1.0"
