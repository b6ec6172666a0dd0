"""The command line: a thin reading of `fleet.Fleet`.

stdout carries data, stderr progress and errors; the exit code says what became of it.
"""
