"""Searches that run: their config and data, the loop, and the records of what came of them.

Imports only engine and what lies at the bottom: errors, folders, plugins and lazy.
"""
