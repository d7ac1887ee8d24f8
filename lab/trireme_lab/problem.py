"""The one exception that the lab shows to people."""


class Problem(Exception):
    """What is wrong and what to do about it, in one line; ends the program with status 1."""
