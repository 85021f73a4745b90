"""Public data sets by name: one file each, whose ``SETS`` say what is fetched and how it is read.

The folder is the list: ``worlds/datasets/wmdp.py`` holds the sets of WMDP. No text of theirs is
here.
"""
