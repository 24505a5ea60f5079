"""What differs between families of vision-language models; one difference per file.

Everything outside this folder treats all models alike. A difference is told by what the model, its inputs or its
outputs offer, not by the family's name; the names stand in `model_types` alone. Importing this file loads nothing.
"""
