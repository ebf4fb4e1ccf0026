"""What ``engine.py`` and ``data_directory.py`` measure, a subject to a module."""
