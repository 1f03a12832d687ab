"""The recorded input, decided once more and held against what was recorded; read-only.

`core` decides and compares. It is copied next to the code of another revision to run there, so
it imports of this project only what every revision has, and itself by relative imports.
"""
