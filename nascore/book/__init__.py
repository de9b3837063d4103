"""The book: figures, tables, executed notebooks and the built pages.

Imports only engine, runs, theory, evidence and what lies at the bottom: errors, folders, plugins
and lazy.
"""
