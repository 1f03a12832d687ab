"""What a release is checked with: known weaknesses, a bill of materials, the image rehearsed.

Never part of the image.
"""
