"""Matches the categories of two data sets, or of a data set and a detector, by their names.

Every data set numbers its categories in its own way: only the name says what an id means.
"""

import collections
import unicodedata
from collections.abc import Iterable, Mapping

_SHOWN_NAMES = 8


def match_categories(own: Mapping[int, str], other: Mapping[int, str]) -> dict[int, int]:
    """The ids that the categories of `own` have in `other`.

    The same name at the same id comes first, then the same name elsewhere, then one that differs only in case, spaces
    or Unicode form, if no other does so too. A category without counterpart is left out. Where either side has nothing
    but ids for names, the ids themselves are matched.

    Args:
        own: category id -> name.
        other: category id -> name.

    Returns:
        Id in `own` -> id in `other`.
    """
    if not (_has_names(own) and _has_names(other)):
        return {key: key for key in own if key in other}
    found = {key: key for key, name in own.items() if other.get(key) == name}
    free = {name: key for key, name in reversed(list(other.items())) if key not in found.values()}
    found |= {key: free.pop(name) for key, name in own.items() if key not in found and name in free}
    mine = _by_plain_name({key: name for key, name in own.items() if key not in found})
    others = _by_plain_name({key: name for key, name in other.items() if key not in found.values()})
    found |= {mine[name]: others[name] for name in mine.keys() & others.keys()}
    return dict(sorted(found.items()))


def describe_difference(own: Mapping[int, str], other: Mapping[int, str], keys: Iterable[int]) -> str:
    """Describes which names of `own`, those at `keys`, are missing in `other`, and what there is instead."""
    return f"{_list_names(own[key] for key in keys)} (known: {_list_names(other.values())})"


def _list_names(names: Iterable[str]) -> str:
    names = [repr(name) for name in names]
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(names[:_SHOWN_NAMES]) + more


def _has_names(categories: Mapping[int, str]) -> bool:
    return any(name != str(key) for key, name in categories.items())


def _by_plain_name(categories: Mapping[int, str]) -> dict[str, int]:
    """Finds the categories whose names differ from all others by more than spelling."""
    counts = collections.Counter(map(_plain, categories.values()))
    return {_plain(name): key for key, name in categories.items() if counts[_plain(name)] == 1}


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").split())
