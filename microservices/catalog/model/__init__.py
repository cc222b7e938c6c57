"""The rules of the catalogue: titles, their names, and how a film list becomes them."""

from __future__ import annotations

from microservices.catalog.model.catalogue import Catalogue, Sharing, detail
from microservices.catalog.model.films import Catalogued, Film, Note, titles_from
from microservices.catalog.model.names import fold, mend, slug_of
from microservices.catalog.model.titles import Episode, Title, derive

__all__ = [
    "Catalogue",
    "Catalogued",
    "Episode",
    "Film",
    "Note",
    "Sharing",
    "Title",
    "derive",
    "detail",
    "fold",
    "mend",
    "slug_of",
    "titles_from",
]
