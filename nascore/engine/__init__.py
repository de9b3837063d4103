"""The paper's mathematics: cells, masks, frameworks, the local cost, one step of a search.

Read these files first; cpu/ only makes them fast and can be skipped.
Imports only errors, folders, plugins and lazy.
"""
