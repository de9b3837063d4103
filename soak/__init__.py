"""The long attack on records, checkpoints, searches and sweeps: make soak.

kills      a search is killed at any moment, goes on, and gives the same bits
flips      one bit of a record or a checkpoint is flipped: refused, or of no consequence
orphans    a sweep is killed: none of its processes is left
inputs     bad input is one line, before any work
"""
