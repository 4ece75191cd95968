"""What can be wrong with an import as a whole."""


class ImportFileError(Exception):
    """The file as a whole cannot be imported; the message says why, in a sentence for an operator."""
