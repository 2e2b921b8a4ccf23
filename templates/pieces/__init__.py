"""The layers, functions and distributions that emitted files are made of.

Each top-level name is copied verbatim, together with the names that it refers to, so a file here
imports only the standard library, torch, and its neighbours, and names are unique in the folder.
Everywhere x is (B, *axes, C): features last, whatever the number of axes.
"""
