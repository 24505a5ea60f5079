"""The gym_cards family: small games of perception and arithmetic, drawn as 300 x 300 pictures.

Each game is a pair of files: `<game>.py` holds the rules and the drawing, `<game>_task.py` the language.
"""
