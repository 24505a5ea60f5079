"""ALFWorld's visual mode: the same rules and words as the text games, with pictures by the THOR simulator.

Only `simulator` needs the packages of that mode; it is imported late, and in a process of its own.
"""
