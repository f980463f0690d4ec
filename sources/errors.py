"""What can go wrong with a video source.

Every message is one sentence that says what was wrong and what would be right, and is safe to
print: it never holds a password or a token, because libraries' own messages are never passed on.
"""


class SourceError(Exception):
    """Any failure of a video source."""


class SourceOpenError(SourceError):
    """The source could not be opened, or gave no first frame."""


class PictureError(SourceError):
    """Bytes that were given are not a picture that is taken."""


class SourceRefusedError(SourceError):
    """A client asked for a source that the operator does not allow."""
