"""The places of entries in a folder: by its layout and its name template, each name once and for ever.

A name that was ever used in the folder, compared without case, is never used again, by the server before either: an ERP
passes over a name that it knows. So it is with a place that its client has given to something. `k` = 2, 3 … tells them
apart. Runs inside the publishing transaction, which holds the folder's row.
"""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from ..domain import names
from ..domain.documents import Document
from ..domain.folders import Layout
from ..domain.tables import metadata
from ..parties import layouts
from ..store.database import Transaction

ENTRY = metadata.tables["folder_entry"]
HISTORY = metadata.tables["history_file"]

Wanted = tuple[Document, str, str, str]  # with the contract's number, the nature's code and the ending


class Namer:
    """Places for one batch: looks up once which of the wanted ones are taken."""

    def __init__(
        self, tx: Transaction, folder_id: str, layout: Layout, template: str | None, wanted: Sequence[Wanted]
    ) -> None:
        """`wanted`: every file of the batch."""
        self._tx = tx
        self._folder_id = folder_id
        self._template = template or names.TEMPLATE
        # Only then can a client have given something the place of a name that is not used yet: see dropfolder/paths.py.
        self._is_special = template is not None or layout is Layout.BY_CONTRACT
        self._directories = self._make(wanted) if layout is Layout.BY_CONTRACT else {}
        candidates = [self._candidate(one, 1) for one in wanted]
        self._used = self._names_used({names.fold(name) for name in candidates})
        places = zip(map(self._directory, wanted), candidates, strict=True) if self._is_special else ()
        self._taken = self._places_taken({self._place(*place) for place in places})

    def place(self, wanted: Wanted, again: int = 0) -> tuple[str, str]:
        """Folder inside the area, and name: the first that is free; from now on it is used.

        `again`: deliveries that the document had before. Their names need not be tried one by one.
        """
        k, directory = 1, self._directory(wanted)
        while self._is_used(directory, name := self._candidate(wanted, k), k):
            k = max(k, again) + 1
        self._used.add(names.fold(name))
        return directory, name

    def _is_used(self, directory: str, name: str, k: int) -> bool:
        folded, place = names.fold(name), self._place(directory, name)
        if folded in self._used or place in self._taken:
            return True
        if k == 1:  # looked up with the batch
            return False
        return bool(self._names_used({folded}) or self._places_taken({place}))

    def _candidate(self, wanted: Wanted, k: int) -> str:
        document, contract, code, ending = wanted
        return names.entry_name(document.issue_date, contract, document.number, code, k, ending, self._template)

    def _directory(self, wanted: Wanted) -> str:
        document, contract, _, _ = wanted
        name = names.directory_name(contract) if document.kind.is_invoice else ""
        place = self._directories.get(names.fold(layouts.place_of(name)), "")
        return place.rpartition("/")[2]

    @staticmethod
    def _place(directory: str, name: str) -> str:
        return names.fold(f"{layouts.place_of(directory)}/{name}")

    def _names_used(self, folded: Iterable[str]) -> set[str]:
        wanted = list(folded)
        used = [
            sa.select(table.c.name_folded).where(table.c.folder_id == self._folder_id, table.c.name_folded.in_(wanted))
            for table in (ENTRY, HISTORY)
        ]
        return set(self._tx.execute(sa.union_all(*used)).scalars())

    def _places_taken(self, places: Iterable[str]) -> set[str]:
        """Those that hold something which its client moved there or made."""
        if not self._is_special:
            return set()
        return layouts.files_at(self._tx, self._folder_id, places) | set(
            layouts.folders_at(self._tx, self._folder_id, places)
        )

    def _make(self, wanted: Sequence[Wanted]) -> dict[str, str]:
        """The contracts' folders, made where they are missing. Where its client put a file, there is none."""
        contracts = {contract for document, contract, _, _ in wanted if document.kind.is_invoice}
        return layouts.make_directories(self._tx, self._folder_id, contracts)
