"""The command ``anytick``: one file per subcommand, each with `add_parser` and `run`.

Only the standard library is imported here and at the top of a command's file; everything else waits
until `run`, so that ``--help`` is instant.
"""
