"""Bad input of the vision room."""

__all__ = ["VisionError"]


class VisionError(ValueError):
    """Images, prompts or a pipeline that can't be used; the message says what to do."""
