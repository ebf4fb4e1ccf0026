"""The generated pages of ``docs/reference``, a module each; ``write_reference.py`` writes them.

Each module has a function ``page`` that returns the page as Markdown. What it says comes from the
code; what the code does not know (the cure of an error) stands in the module, checked against it.
"""
