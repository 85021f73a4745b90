"""The sections of the report, one file each; :mod:`titer.report.section` says what is in one."""
