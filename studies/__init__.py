"""Studies: typed questions to the library, each one command that resumes; not part of the wheel."""
