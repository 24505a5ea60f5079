"""ALFWorld households as text: game files, engine, environment, language and a generator of scenes.

Only `engine` with its `parse_cache` and `household` import the optional packages `alfworld` and `textworld`; what
does not use these three works on plain data and can be imported and tested without the packages.
"""
