"""The one exception a user may meet: it says what is wrong, where, and what to do."""


class UserError(ValueError):
    """A mistake in the input, the options or a file; the message names it and the legal values.

    Command lines print the message alone, without a traceback.
    """


__all__ = ["UserError"]
