"""ALFWorld households: game files, engine, environment, language and a generator of scenes.

Only `engine` with its `parse_cache`, `household` and, late, `thor.simulator` import the optional packages; what does
not use these works on plain data and can be imported and tested without them.
"""
