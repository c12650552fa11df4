"""Errors of a study that its user can do something about."""

__all__ = ["DiskFullError", "StudyError"]


class StudyError(ValueError):
    """The study can't be read or can't go on; the message says what to do."""


class DiskFullError(StudyError):
    """There is no room for another run; those that are done are kept."""
