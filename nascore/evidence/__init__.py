"""From experiments to verdicts: which runs a claim needs, its effect, and its test across seeds.

Imports only engine, runs, theory and what lies at the bottom: errors, folders, plugins and lazy.
"""
