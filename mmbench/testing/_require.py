"""How the contract suite says that something is broken."""


def require(condition: object, message: str) -> None:
    """Fail with a message unless the condition holds; unlike `assert`, also under `python -O`.

    Raises:
        AssertionError: With the message.
    """
    if not condition:
        raise AssertionError(message)
