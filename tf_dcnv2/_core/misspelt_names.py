"""What messages suggest in place of a name that nothing has."""

import difflib
from collections.abc import Iterable

_MOST = 3


def did_you_mean(names: Iterable[object], known: Iterable[str], prefix: str = "") -> str:
    """Asks whether similar names were meant.

    Args:
        names: those that nothing has.
        known: names of what there is.
        prefix: what stands before each suggested name, such as the section of a setting.

    Returns:
        A sentence to append to a message, with the space before it; empty if nothing is similar.

    Example:
        >>> did_you_mean(["sigam"], ["sigma", "mode"], "blur.")
        " Did you mean 'blur.sigma'?"
    """
    known = list(known)
    similar = dict.fromkeys(near for name in names for near in difflib.get_close_matches(str(name), known, _MOST))
    *others, last = [repr(prefix + near) for near in similar] or [""]
    if not last:
        return ""
    return f" Did you mean {', '.join(others)} or {last}?" if others else f" Did you mean {last}?"
