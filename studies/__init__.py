"""Studies: what was asked of the library, as code. Each file is one command."""
