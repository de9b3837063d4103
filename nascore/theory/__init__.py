"""The paper's theorems in numbers, each beside the chapter that quotes it.

Imports only engine, runs and what lies at the bottom: errors, folders, plugins and lazy.
"""
