"""The templates of ``loram.tasks.wordmath``, by theme, and what they are written with."""
